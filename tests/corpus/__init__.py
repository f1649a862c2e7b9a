"""Bad inputs: what goldenami must refuse in five seconds and 300 MB, with an error at its place."""
