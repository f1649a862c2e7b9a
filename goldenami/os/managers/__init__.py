"""Package managers, which operating systems have in common: a module each, with its shell functions beside it."""
