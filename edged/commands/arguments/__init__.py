"""What a command line may say: a file for each group of commands, each command beside what runs it. Imports nothing heavy."""
