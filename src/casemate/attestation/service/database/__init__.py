"""What the service keeps: one SQLite database (write-ahead log), one writer, many readers.

`schema` has the tables and their migrations, `connection` opens the file, `writer` commits in
groups, `reader` answers; the queries stand by subject in `challenges`, `hosts`, `appraisals`,
`documents` and `principals`, as functions of a connection. Times are microseconds since 1970.
"""
