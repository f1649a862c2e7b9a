# One mount point: reads /etc/fstab and then /proc/self/mounts. From the environment: _point, _source and _type (empty: keep the present
# ones), _options (all options if _source is given, else options to add), _dump, _pass, _state (mounted, boot or absent), _mode: check
# (print the difference and end with 1) or edit (print the new fstab).

function escaped(text) {
  gsub(/\\/, "\\134", text)
  gsub(/ /, "\\040", text)
  gsub(/\t/, "\\011", text)
  return text
}

# Returns the subject of an option. Of the options with the same subject, the last one counts.
function subject(option) {
  sub(/=.*/, "", option)
  if (option ~ /^(ro|rw)$/) return "rw"
  if (option ~ /^(no)?(suid|dev|exec|auto|user|diratime|symfollow|iversion)$/) {
    sub(/^no/, "", option)
    return option
  }
  if (option ~ /^(no|rel|strict|)atime$/) return "atime"
  return option
}

function has(list, option, count, found, i) {
  count = split(list, found, ",")
  for (i = 1; i <= count; i++) if (found[i] == option) return 1
  return 0
}

# Merges two lists of options: an added option replaces those with the same subject.
function merged(list, added, count, found, i, j, more, all) {
  count = split(list, found, ",")
  more = split(added, new, ",")
  all = ""
  for (i = 1; i <= count; i++) {
    for (j = 1; j <= more; j++) if (subject(found[i]) == subject(new[j])) break
    if (j > more) all = all (all == "" ? "" : ",") found[i]
  }
  return all (all == "" || added == "" ? "" : ",") added
}

BEGIN {
  point = escaped(ENVIRON["_point"])
  state = ENVIRON["_state"]
  options = ENVIRON["_options"]
}

FILENAME != "/proc/self/mounts" {
  kept[++count] = $0
  if ($0 !~ /^[ \t]*#/ && $2 == point) {
    at = count
    entries++
    source = $1
    type = $3
    have = $4
    dump = $5 + 0
    pass = $6 + 0
  }
  next
}

$2 == point {
  mounted = 1
  live_source = $1
  live_type = $3
  live = $4
}

function differs(text) {
  print text
  exit 1
}

END {
  if (state == "absent") {
    if (ENVIRON["_mode"] == "check") {
      if (entries) print "is in /etc/fstab"
      else if (mounted) print "is mounted"
      exit (entries || mounted ? 1 : 0)
    }
    for (n = 1; n <= count; n++) {
      split(kept[n], field)
      if (kept[n] ~ /^[ \t]*#/ || field[2] != point) print kept[n]
    }
    exit 0
  }
  if (ENVIRON["_source"] != "") {
    want_source = escaped(ENVIRON["_source"])
    want_type = ENVIRON["_type"]
    want = options == "" ? "defaults" : options
    want_dump = ENVIRON["_dump"] + 0
    want_pass = ENVIRON["_pass"] + 0
  } else if (entries) {
    want_source = source
    want_type = type
    want = merged(have, options)
    want_dump = dump
    want_pass = pass
  } else if (mounted) {
    want_source = live_source
    want_type = live_type
    want = merged("defaults", options)
  } else {
    print ENVIRON["_point"] " is not a mount point and not in /etc/fstab: give its source and fstype" >"/dev/stderr"
    exit 2
  }
  entry = want_source " " point " " want_type " " want " " want_dump + 0 " " want_pass + 0
  if (ENVIRON["_mode"] == "edit") {
    for (n = 1; n <= count; n++) {
      split(kept[n], field)
      if (n == at) print(source " " type " " have " " dump " " pass == want_source " " want_type " " want " " \
        want_dump + 0 " " want_pass + 0 ? kept[n] : entry)
      else if (kept[n] ~ /^[ \t]*#/ || field[2] != point) print kept[n]
    }
    if (!at) print entry
    exit 0
  }
  if (!entries) differs("is not in /etc/fstab")
  else if (entries > 1) differs("is in /etc/fstab " entries " times")
  else if (source != want_source) differs("its source is " source)
  else if (type != want_type) differs("its type is " type)
  else if (have != want) differs("its options are " have)
  else if (dump != want_dump + 0 || pass != want_pass + 0) differs("dump and pass are " dump " " pass)
  else if (state == "mounted") {
    if (!mounted) differs("is not mounted")
    n = split(want, each, ",")
    for (i = 1; i <= n; i++) {
      if (each[i] ~ /^(ro|rw|nosuid|nodev|noexec|noatime|relatime|strictatime|nodiratime|nosymfollow)$/ && !has(live, each[i]))
        differs("is mounted " live)
      if (each[i] ~ /^(suid|dev|exec)$/ && has(live, "no" each[i])) differs("is mounted " live)
    }
  }
}
