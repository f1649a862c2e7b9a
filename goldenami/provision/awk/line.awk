# A line of a file. From the environment: _numbers (of the lines that are replaced by it), _after and _before (a number each, or
# empty), _start (not empty: at the beginning), _line; an empty _line removes those numbers.

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
