"""Parts that several algorithms share. An algorithm's own file, one folder up, reads like its paper."""
