# Adds time stamps to the shell history. Makes the pager print short output without paging.
export HISTTIMEFORMAT="%F %T "
export LESS="-FRX"
