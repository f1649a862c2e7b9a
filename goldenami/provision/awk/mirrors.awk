# Replaces the beginnings of URLs in files of package sources. PAIRS: a file with lines "BEFORE<tab>AFTER", the longest
# BEFORE first. A list of mirrors that is replaced as a whole becomes a base URL (dnf).
BEGIN {
  while ((getline pair < ENVIRON["PAIRS"]) > 0) {
    split(pair, part, "\t")
    before[++count] = part[1]
    after[count] = part[2]
  }
}
{
  if (match($0, /^(mirrorlist|metalink)[ \t]*=[ \t]*/)) {
    value = substr($0, RLENGTH + 1)
    sub(/[ \t]+$/, "", value)
    for (i = 1; i <= count; i++)
      if (value == before[i]) {
        print "baseurl=" after[i]
        next
      }
  }
  rest = $0
  text = ""
  while (rest != "") {
    best = 0
    for (i = 1; i <= count; i++) {
      at = index(rest, before[i])
      if (at && ends(substr(rest, at + length(before[i]), 1)) && (!best || at < best)) {
        best = at
        which = i
      }
    }
    if (!best) break
    text = text substr(rest, 1, best - 1) after[which]
    rest = substr(rest, best + length(before[which]))
  }
  print text rest
}

# Whether a URL can be replaced before this character: https://example.org/debian is not the beginning of
# https://example.org/debian-security.
function ends(character) {
  return character == "" || character ~ /[\/ \t,"']/
}
