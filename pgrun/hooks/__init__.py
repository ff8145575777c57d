"""Hooks that come with pgrun: each is one file, and a member of the config group `hook`."""
