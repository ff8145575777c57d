"""The process and the machine it runs on: signals, locks, files, memory, random generators. Imports errors alone."""
