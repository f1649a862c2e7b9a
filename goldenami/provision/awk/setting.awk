# One key of a settings file. From the environment: _format, _section, _key, _value (unquoted), _written (the line for the file), _state
# (present or absent), _mode: check (print the difference and end with 1) or edit (print the new file).

function trim(text) {
  sub(/^[ \t]+/, "", text)
  sub(/[ \t\r]+$/, "", text)
  return text
}

function squeezed(text) {
  gsub(/[ \t]+/, " ", text)
  return trim(text)
}

function folded(text) {
  return format == "ssh" ? tolower(text) : text
}

# Returns the section that a line opens, or an empty text.
function opened(text) {
  text = squeezed(text)
  if (format == "ini" && text ~ /^\[.*\]$/) return substr(text, 2, length(text) - 2)
  if (format == "ssh" && tolower(text) ~ /^(match|host) /) return tolower(text)
  return ""
}

function plain(text) {
  if (format != "shell") return text
  if (text ~ /^".*"$/) {
    text = substr(text, 2, length(text) - 2)
    gsub(/\\"/, "\"", text)
    gsub(/\\[$]/, "$", text)
    gsub(/\\`/, "`", text)
    gsub(/\\\\/, "\\", text)
  } else if (text ~ /^'.*'$/) text = substr(text, 2, length(text) - 2)
  return text
}

# Returns 1 if the line sets this key, and sets got to its value.
function ours(text, at, count, words, name) {
  text = trim(text)
  if (format == "shell") sub(/^export[ \t]+/, "", text)
  if (format == "words" || format == "ssh") {
    count = split(key, words, " ")
    name = ""
    for (at = 1; at <= count; at++) {
      if (!match(text, /^[^ \t=]+/)) return 0
      name = name (at > 1 ? " " : "") substr(text, 1, RLENGTH)
      text = substr(text, RLENGTH + 1)
      sub(/^[ \t]*=?[ \t]*/, "", text)
    }
    got = text
    return folded(name) == folded(key)
  }
  at = index(text, "=")
  name = at ? trim(substr(text, 1, at - 1)) : text
  got = at ? trim(substr(text, at + 1)) : ""
  return name == key
}

BEGIN {
  format = ENVIRON["_format"]
  key = ENVIRON["_key"]
  wanted = ENVIRON["_value"]
  written = ENVIRON["_written"]
  section = format == "ssh" ? tolower(squeezed(ENVIRON["_section"])) : squeezed(ENVIRON["_section"])
  current = ""
  seen = (section == "")
  last = first = example = count = 0
}

{
  kept[NR] = $0
  line = trim($0)
  if (line !~ /^[#;]/ && opened(line) != "") {
    current = opened(line)
    if (current == section) {
      seen = 1
      last = NR
    }
    next
  }
  if (current != section) next
  if (line ~ /^[#;]/) {
    sub(/^[#;]+[ \t]?/, "", line)
    if (!example && ours(line)) example = NR
    last = NR
  } else if (line != "") {
    last = NR
    if (ours(line)) {
      active[NR] = 1
      if (!count++) {
        first = NR
        value = got
      }
    }
  }
}

END {
  right = count && (squeezed(value) == squeezed(wanted) || plain(value) == wanted)
  if (ENVIRON["_mode"] == "check") {
    if (ENVIRON["_state"] == "absent") {
      if (count) print "is " value
      exit (count > 0)
    }
    if (!count) print "is not set"
    else if (!right) print "is " value
    else if (count > 1) print "is set " count " times"
    exit (right && count == 1 ? 0 : 1)
  }
  absent = (ENVIRON["_state"] == "absent")
  after = absent ? -1 : first ? -1 : example ? example : last
  if (!seen && !absent) after = -1
  if (after == 0) print written
  for (n = 1; n <= NR; n++) {
    if (n in active) {
      if (!absent && n == first) print(right ? kept[n] : written)
      continue
    }
    print kept[n]
    if (n == after) print written
  }
  if (!seen && !absent) {
    if (NR && kept[NR] != "") print ""
    print(format == "ini" ? "[" ENVIRON["_section"] "]" : ENVIRON["_section"])
    print written
  }
}
