# One line of a file. From the environment: _line (the new line; empty: remove lines), _numbers (numbers of the lines to replace or
# remove), _after and _before (line numbers, or empty), _start (not empty: insert at the beginning).

BEGIN {
  line = ENVIRON["_line"]
  after = ENVIRON["_after"]
  before = ENVIRON["_before"]
  count = split(ENVIRON["_numbers"], list, " ")
  for (i = 1; i <= count; i++) selected[list[i]] = 1
  done = (line == "")
  if (!done && !count && ENVIRON["_start"] != "") {
    print line
    done = 1
  }
}

NR in selected {
  if (!done) {
    print line
    done = 1
  }
  next
}

!count && !done && before != "" && NR == before {
  print line
  done = 1
}

{ print }

!count && !done && after != "" && NR == after {
  print line
  done = 1
}

END { if (!done) print line }
