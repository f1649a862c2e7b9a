"""The command line: arguments in, exit codes and rendering out. No decisions are made here."""
