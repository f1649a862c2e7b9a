# Time stamps in the history of interactive shells, and a pager that leaves short output alone.
export HISTTIMEFORMAT="%F %T "
export LESS="-FRX"
