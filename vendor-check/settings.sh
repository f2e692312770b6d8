# Part of vendor-check/run: every setting of the Makefile is changed, `make install` is run once with them all, and
# the program and the installed texts have to say and do what was asked for. What needs users other than oneself
# (owners of files, set-uid copies) needs root.

# The variables of make, as a distribution would write them.
set_settings() {
    settings=(
        DESTDIR="$work/root" PREFIX=/opt/mail SYSCONFDIR=/opt/etc
        OXIM_USER=mail OXIM_GROUP=mail KEEPER_USER=backup KEEPER_GROUP=backup
        CONFIGURE_FILE="$work/etc/missing.conf:$work/etc/second.conf" CONFIGURE_OWNER=news CONFIGURE_GROUP=uucp
        TRUSTED_CONFIG_LIST="$work/etc/trusted"
        WHITELIST_D_MACROS=OUTGOING:PORT "WHITELIST_D_VALUES=^[0-9]+\$\$"
        FIXED_NEVER_USERS=root:daemon:games
        SPOOL_DIRECTORY="$work/spool" LOG_FILE_PATH="$work/log/%s.log" HEADERS_CHARSET=ISO-8859-2
        DISABLE_OCSP=yes MESSAGE_IDS=short EXIM_VERSION=4.96 MAILER_NAME=Exim
    )
}

settings() {
    echo "== every setting of the Makefile changed"
    local settings unset
    set_settings
    unset=$(sed -n 's/^\([A-Z_]*\) ?=.*/\1/p' Makefile | grep -vx CARGO |
        grep -vxF "$(printf '%s\n' "${settings[@]}" | cut -d= -f1)")
    must "none is forgotten here ${unset:+($unset)}" [ -z "$unset" ]
    # not optimised: only what it says and does is looked at
    must "make install" env CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0 \
        make CARGO="$cargo" "${settings[@]}" install || return
    binary=$work/root/opt/mail/sbin/oxim
    must "PREFIX, DESTDIR: the program is there" [ -x "$binary" ] || return
    installed_texts
    mkdir -p "$work/etc" "$work/spool" "$work/log" "$work/mail"
    chmod 755 "$work" "$work/etc"
    settings_conf >"$work/etc/second.conf"
    settings_said
    settings_as_exim
    if [ "$(id -u)" = 0 ]; then
        chown mail:mail "$work/spool" "$work/log"
        chmod 1777 "$work/mail"
        settings_done
    else
        echo "        (not root: owners, trust, never_users and the spool are not tried)"
    fi
    wrong_settings
}

settings_conf() {
    cat <<CONF
primary_hostname = vendor.check
host_lookup =
keep_environment =
acl_smtp_rcpt = accept
tls_advertise_hosts = *
PORT = 1
OUTGOING = 2
begin routers
r:
  driver = accept
  transport = \${if eq{\$local_part}{never}{never}{maildir}}
begin transports
maildir:
  driver = appendfile
  directory = $work/mail/\$local_part_data
  maildir_format
  user = nobody
never:
  driver = appendfile
  directory = $work/mail/never
  maildir_format
  user = games
CONF
}

installed_texts() {
    local file=$work/root/opt
    must "SYSCONFDIR: the unit starts it from PREFIX" \
        grep -q "^ExecStart=/opt/mail/sbin/oxim " "$work/root/etc/systemd/system/oxim.service"
    must "CONFIGURE_FILE: the example configuration lies at its first path" [ -e "$work/root$work/etc/missing.conf" ]
    must "SYSCONFDIR: that configuration names its aliases there" \
        grep -q "lsearch{/opt/etc/oxim/aliases}" "$work/root$work/etc/missing.conf"
    must "SYSCONFDIR: the aliases are there" [ -e "$file/etc/oxim/aliases" ]
    must "SPOOL_DIRECTORY: made" [ -d "$work/root$work/spool/input" ]
    must "LOG_FILE_PATH: its directory is made" [ -d "$work/root$work/log" ]
    for place in "$work/etc/missing.conf" "$work/etc/trusted" "$work/spool" "$work/log"; do
        must "oxim(8) names $place" grep -q "$place" "$file/mail/share/man/man8/oxim.8"
    done
}

# says_line TEXT COMMAND...: a line of what it prints is this
says_line() {
    local text=$1
    shift
    "$@" 2>&1 | grep -qxF -- "$text"
}

settings_said() {
    local number
    number=$(getent group uucp | cut -d: -f3)
    must "EXIM_VERSION: -bV" eval "'$binary' -bV | head -1 | grep -q '^Exim version 4.96 '"
    must "EXIM_VERSION: \$exim_version, \$version_number" \
        says_line "4.96 4.96" "$binary" -be '$exim_version $version_number'
    must "FIXED_NEVER_USERS: -bV" says_line "Fixed never_users: 0 $(id -u daemon) $(id -u games)" "$binary" -bV
    must "CONFIGURE_OWNER, CONFIGURE_GROUP: -bV" \
        says_line "Configure owner: $(id -u news):$number" "$binary" -bV
    must "CONFIGURE_FILE: -bV" \
        says_line "Configuration file search path is $work/etc/missing.conf:$work/etc/second.conf" "$binary" -bV
    must "CONFIGURE_FILE: the first that is there is read" \
        says_line "Configuration file is $work/etc/second.conf" "$binary" -bV
    must "SPOOL_DIRECTORY: -bP" says_line "spool_directory = $work/spool" "$binary" -bP spool_directory
    must "LOG_FILE_PATH: -bP" says_line "log_file_path = $work/log/%s.log" "$binary" -bP log_file_path
    must "HEADERS_CHARSET: -bP" says_line "headers_charset = ISO-8859-2" "$binary" -bP headers_charset
    must "HEADERS_CHARSET: words are encoded in it" says_line '=?ISO-8859-2?Q?=B3a?=' "$binary" -be '${rfc2047:\xb3a}'
    must "OXIM_USER, OXIM_GROUP: -bP" \
        eval "says_line 'exim_user = mail' '$binary' -bP exim_user && says_line 'exim_group = mail' '$binary' -bP exim_group"
    must_not "DISABLE_OCSP: not: Support for: OCSP" eval "'$binary' -bV | grep '^Support for:' | grep -qw OCSP"
    must_not "DISABLE_OCSP: not: needs gnutls_*ocsp*" needs_ocsp "$binary"
}

# Recorded with: exim4 -bP smtp_banner received_header_text; an ESMTP dialogue on standard input (-bs) with a
# message and HELP; the message's Received: from the spool; exim4 without arguments; a daemon's first line in the log.
settings_as_exim() {
    local port=$((21000 + $$ % 9000)) daemon
    local spool=$work/as-exim dates='[A-Z][a-z][a-z], [ 0-9][0-9] [A-Z][a-z][a-z] [0-9]{4} [0-9:]{8} [-+][0-9]{4}'
    mkdir "$spool"
    { settings_conf | sed "1i spool_directory = $spool\nlog_file_path = $spool/%slog\nqueue_only"; } >"$work/exim.conf"
    [ "$(id -u)" != 0 ] || chown mail:mail "$spool"
    {
        "$binary" -C "$work/exim.conf" -bP smtp_banner received_header_text
        printf '%s\r\n' 'EHLO me' 'MAIL FROM:<a@b.example>' 'RCPT TO:<x@vendor.check>' DATA 'Subject: x' '' x . HELP QUIT |
            "$binary" -C "$work/exim.conf" -bs | grep -E '^(220|214|221)' | tr -d '\r'
        sed -n '/^[0-9]*P /,/^[0-9]*[^0-9P	 ] /p' "$spool"/input/*-H | sed -E 's/^[0-9]+P //' | grep -E '^(Received|	)'
        env -C / "$binary" </dev/null
        "$binary" -C "$work/exim.conf" -bdf -oX "127.0.0.1.$port" -oP "$work/pid" >/dev/null 2>&1 &
        daemon=$!
        for _ in $(seq 100); do grep -qs 'daemon started' "$spool/mainlog" && break; sleep 0.1; done
        kill $daemon
        wait $daemon
        grep 'daemon started' "$spool/mainlog" | cut -d' ' -f3- | sed -e "s/pid=[0-9]*/pid=@PID@/" -e "s/$port/@PORT@/"
    } 2>&1 | sed -E -e "s/$dates/@D@/" -e 's/\b[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}\b/@ID@/' \
        -e "s/^Received: from $(id -un) /Received: from root /" >"$work/said"
    must "MAILER_NAME=Exim: banner, HELP, Received: are Exim's to the letter" \
        diff <(grep -v '^#' vendor-check/exim-texts) "$work/said"
}

# submit USER PROGRAM ARGUMENTS...: hands over a message, which has to be in the spool then
submit() {
    local user=$1 before
    shift
    before=$(find "$work/spool/input" -name '*-H' 2>/dev/null | wc -l)
    printf 'Subject: x\n\nx\n' |
        setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env -C / "$@" -odq x@vendor.check || return
    [ "$(find "$work/spool/input" -name '*-H' | wc -l)" -gt "$before" ]
}

settings_done() {
    local copy=$work/set-uid conf=$work/etc/second.conf
    install -m 4755 "$binary" "$copy"
    must "a set-uid copy takes an ordinary user's message" submit nobody "$copy"
    must "OXIM_USER, SPOOL_DIRECTORY: it lies there and is that user's" \
        eval "[ \"\$(stat -c %U:%G '$work'/spool/input/*-H | sort -u)\" = mail:mail ]"
    must "MESSAGE_IDS=short" eval "ls '$work'/spool/input | grep -Eqx '[0-9A-Za-z]{6}-[0-9A-Za-z]{6}-[0-9A-Za-z]{2}-H'"
    must "LOG_FILE_PATH: the log lies there" grep -q ' <= nobody@vendor.check ' "$work/log/main.log"
    must "MAILER_NAME, EXIM_VERSION: Received:" grep -q '(Exim 4.96)' "$work"/spool/input/*-H

    chown news "$conf"
    must "CONFIGURE_OWNER may own the configuration" "$binary" -bP primary_hostname
    chown games "$conf"
    must_not "another user may not" "$binary" -bP primary_hostname
    chown root:uucp "$conf"
    chmod 664 "$conf"
    must "CONFIGURE_GROUP may write the configuration" "$binary" -bP primary_hostname
    chgrp games "$conf"
    must_not "another group may not" "$binary" -bP primary_hostname
    chown root:root "$conf"
    chmod 644 "$conf"

    cp "$conf" "$work/etc/other.conf"
    cp "$conf" "$work/etc/listed.conf"
    echo "$work/etc/listed.conf" >"$work/etc/trusted"
    must "TRUSTED_CONFIG_LIST: -C with one of it keeps the rights" submit mail "$copy" -C "$work/etc/listed.conf"
    must "TRUSTED_CONFIG_LIST: for CONFIGURE_OWNER too" submit news "$copy" -C "$work/etc/listed.conf"
    must_not "-C with another does not" submit news "$copy" -C "$work/etc/other.conf"
    must_not "nor for an ordinary user" submit nobody "$copy" -C "$work/etc/listed.conf"
    must "WHITELIST_D_MACROS, WHITELIST_D_VALUES: a listed macro, a value that fits" submit news "$copy" -DOUTGOING=25
    must_not "a listed macro, a value that does not fit" submit news "$copy" -DOUTGOING=abc
    must_not "a macro that is not listed" submit news "$copy" -DOTHER=25

    printf 'Subject: x\n\nx\n' | "$binary" -odi never@vendor.check
    must "FIXED_NEVER_USERS: no delivery runs as one of them" \
        grep -q "User $(id -u games) set for never transport is on the never_users list" "$work/log/main.log"
    must_not "nothing was delivered as that user" [ -e "$work/mail/never" ]
}

# refused NAME=VALUE TEXT: the build stops and names it
refused() {
    local output
    output=$(env "OXIM_${1#OXIM_}" "$cargo" check --locked --lib 2>&1) && return 1
    grep -q "error: .*build setting ${1%%=*}=.*$2" <<<"$output" || { echo "$output" | head; return 1; }
}

wrong_settings() {
    must "MESSAGE_IDS=middle is refused" refused MESSAGE_IDS=middle 'long.*short'
    must "an unknown user in FIXED_NEVER_USERS is refused" refused FIXED_NEVER_USERS=root:nosuch '"nosuch" is not known'
    must "an unknown CONFIGURE_OWNER is refused" refused CONFIGURE_OWNER=nosuch '"nosuch" is not known'
    must "an unknown CONFIGURE_GROUP is refused" refused CONFIGURE_GROUP=nosuch '"nosuch" is not known'
    must "OXIM_USER=root is refused" refused OXIM_USER=root 'does not run as root'
    must "OXIM_USER='a user' is refused" refused 'OXIM_USER=a user' 'no name of a user'
    must "the staple keeper is not OXIM_USER" refused KEEPER_USER=oxim 'a user of its own'
    must "a bad pattern is refused" refused 'WHITELIST_D_VALUES=^[a' 'does not compile'
    must "a bad macro name is refused" refused WHITELIST_D_MACROS=port 'no macro'
    must "a relative SPOOL_DIRECTORY is refused" refused SPOOL_DIRECTORY=spool 'no absolute path'
    must "a relative CONFIGURE_FILE is refused" refused CONFIGURE_FILE=/etc/a:b 'no absolute path'
    must "EXIM_VERSION=new is refused" refused EXIM_VERSION=new 'version of Exim'
    must "an expansion in MAILER_NAME is refused" refused 'MAILER_NAME=$tod_full' 'letters'
}
