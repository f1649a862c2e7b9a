# A block of lines between two marker lines. From the environment: _begin and _end (the markers), _block (a file with the lines between
# them; empty: remove the block), _after and _before (line numbers, or empty), _start (not empty: insert at the beginning).

function put() {
  print ENVIRON["_begin"]
  while ((getline text <ENVIRON["_block"]) > 0) print text
  close(ENVIRON["_block"])
  print ENVIRON["_end"]
  done = 1
}

{ kept[NR] = $0 }

END {
  begin = end = 0
  for (n = 1; n <= NR; n++) {
    if (!begin && kept[n] == ENVIRON["_begin"]) begin = n
    else if (begin && !end && kept[n] == ENVIRON["_end"]) end = n
  }
  if (begin && !end) {
    print "the line " ENVIRON["_begin"] " has no " ENVIRON["_end"] " after it" >"/dev/stderr"
    exit 2
  }
  done = (ENVIRON["_block"] == "")
  if (!done && !begin && ENVIRON["_start"] != "") put()
  for (n = 1; n <= NR; n++) {
    if (begin && n >= begin && n <= end) {
      if (!done) put()
      continue
    }
    if (!done && !begin && ENVIRON["_before"] == n) put()
    print kept[n]
    if (!done && !begin && ENVIRON["_after"] == n) put()
  }
  if (!done) put()
}
