# One kernel argument. From the environment: _name, _word (the argument with its value), _state (present or absent), _mode: check
# (compare /etc/default/grub), edit (print the new /etc/default/grub), menu (compare grub.cfg) or grubby (compare its --info).

# Returns the arguments of a command line without this one. Sets right if this one is as required, and other to a different value.
function others(text, count, word, i, rest) {
  right = 0
  other = ""
  rest = ""
  count = split(text, word, " ")
  for (i = 1; i <= count; i++) {
    if (word[i] == name || index(word[i], name "=") == 1) {
      if (word[i] == wanted && !right && state == "present") right = 1
      else other = word[i]
    } else rest = rest (rest == "" ? "" : " ") word[i]
  }
  return rest
}

function compare(text) {
  others(text)
  if (other != "") found = "is " other
  else if (state == "present" && !right) found = "is not set"
}

BEGIN {
  name = ENVIRON["_name"]
  wanted = ENVIRON["_word"]
  state = ENVIRON["_state"]
  mode = ENVIRON["_mode"]
}

(mode == "edit" || mode == "check") && /^[ \t]*GRUB_CMDLINE_LINUX(_DEFAULT)?=/ {
  key = $0
  sub(/=.*/, "", key)
  text = $0
  sub(/^[^=]*=/, "", text)
  mark = substr(text, 1, 1)
  if (mark == "\"" || mark == "'") {
    text = substr(text, 2)
    tail = text
    at = index(text, mark)
    if (at) {
      text = substr(tail, 1, at - 1)
      tail = substr(tail, at + 1)
    } else tail = ""
  } else {
    mark = "\""
    tail = ""
  }
  ours = (key !~ /_DEFAULT$/)
  if (ours) seen = 1
  if (mode == "check") {
    rest = others(text)
    if (other != "") found = "is " other
    else if (ours && state == "present" && !right) found = "is not set"
    next
  }
  rest = others(text)
  if (ours && state == "present") rest = rest (rest == "" ? "" : " ") wanted
  if (ours ? right && other == "" : other == "" && !right) print
  else print key "=" mark rest mark tail
  next
}

mode == "edit" { print }

mode == "menu" && /^[ \t]*linux(efi|16)?[ \t]/ {
  # Rescue entries are compared too, because GRUB_CMDLINE_LINUX is for all entries.
  compare($0)
  seen = 1
}

mode == "grubby" && /^args=/ {
  text = $0
  sub(/^args=/, "", text)
  gsub(/"/, "", text)
  compare(text)
  seen = 1
}

END {
  if (mode == "edit") {
    if (!seen && state == "present") print "GRUB_CMDLINE_LINUX=\"" wanted "\""
    exit 0
  }
  if (!seen && state == "present" && mode == "check") found = "is not set"
  if (found != "") {
    print found
    exit 1
  }
}
