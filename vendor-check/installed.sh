# Part of vendor-check/run: what `make install` puts where, with which owner and mode, against packaging/manifest: below
# a DESTDIR, as a package is built, and by root on a system of its own; then what `make uninstall` leaves.

# The manifest as `find` would print it, for the real system or (staged) below a DESTDIR, where everything belongs to
# who builds, and a program's set-id bit waits for the owner whom a package's scripts give it.
meant() {
    packaging/list | while read -r kind mode user group path; do
        case $kind in file | config) kind=f ;; link) kind=l mode=777 ;; dir) kind=d ;; esac
        mode=${mode#0}
        if [ "$1" = staged ]; then
            user=$(id -un) group=$(id -gn)
            [ $kind != f ] || [ ${#mode} = 3 ] || mode=${mode#?}
        fi
        echo "$kind $mode $user $group $path"
    done | sort
}

# as_meant MEANT FOUND USER: nothing is missing, other, or too many but the directories on the way, which are plain
as_meant() {
    awk -v user="$3" '
        NR == FNR { want[$5] = $0; next }
        $5 in want { if (want[$5] != $0) { print "is    " $0 "\nmeant " want[$5]; bad = 1 } seen[$5] = 1; next }
        {
            way = 0
            for (path in want) if (index(path, $5 "/") == 1) way = 1
            if (!way || $1 != "d" || $2 != "755" || $3 != user) { print "not meant: " $0; bad = 1 }
        }
        END { for (path in want) if (!(path in seen)) { print "missing: " want[path]; bad = 1 } exit bad }' "$1" "$2"
}

# harmless FOUND: whatever the manifest says, no program is set-uid, one is set-gid, files are root's, and none but
# its owner may write a thing; only drop/ takes files from its group.
harmless() {
    awk '
        $1 == "l" { next }
        {
            special = length($2) == 4 ? substr($2, 1, 1) : 0
            group = substr($2, length($2) - 1, 1); other = substr($2, length($2), 1)
            if (special >= 4) { print "set-uid: " $0; bad = 1 }
            if ($1 == "f" && special % 4 >= 2 && $5 !~ "/sbin/oxim$") { print "set-gid: " $0; bad = 1 }
            if (int(other / 2) % 2 == 1) { print "all may write: " $0; bad = 1 }
            if (int(group / 2) % 2 == 1 && $5 !~ "/drop$") { print "a group may write: " $0; bad = 1 }
            if ($1 == "f" && $3 != owner) { print "a file that is not root'"'"'s: " $0; bad = 1 }
        }
        END { exit bad }' owner="$2" "$1"
}

# make with a program that is not optimised: it is only looked at
plain_make() {
    env CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0 make CARGO="$cargo" "$@"
}

everything_in() { find "$@" -mindepth 1 -printf '%y %m %u %g %p\n'; }

installed() {
    echo "== what is installed"
    local root=$work/destdir mask
    must "make" plain_make all || return
    for mask in 022 077; do
        rm -rf "$root"
        mkdir "$root"
        must "make install DESTDIR=..., umask $mask" eval "umask $mask; plain_make DESTDIR='$root' install" || return
        meant staged >"$work/meant"
        everything_in "$root" | sed "s| $root/| /|" >"$work/found"
        must "its files, links and directories, owners and modes ($(wc -l <"$work/meant")) are the manifest's" \
            as_meant "$work/meant" "$work/found" "$(id -un)"
        must "none of these modes gives anybody too much" harmless "$work/found" "$(id -un)"
    done
    sed 1d "$work/meant" >"$work/less"
    must_not "one that the manifest does not have would be seen" as_meant "$work/less" "$work/found" "$(id -un)"
    sed 's/^f 755 /f 4755 /' "$work/found" >"$work/other"
    must_not "a set-uid program would be seen" harmless "$work/other" "$(id -un)"
    sed '/^f/s/ 644 / 664 /' "$work/found" >"$work/other"
    must_not "a file that a group may write would be seen" harmless "$work/other" "$(id -un)"
    sed '/^d/d; s/ 755 / 775 /' "$work/found" >"$work/other"
    must_not "another mode would be seen" as_meant "$work/meant" "$work/other" "$(id -un)"
    must "make uninstall DESTDIR=..." plain_make DESTDIR="$root" uninstall
    must "it leaves the configuration and the mail" leaves_only_data "$root"
    if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
        installed_by_root
    else
        echo "        (not root: owners and set-id bits of a real system are not tried)"
    fi
}

# What is there still has to be configuration, spool or log.
leaves_only_data() {
    local left
    left=$(packaging/list | while read -r kind _ _ _ path; do
        case $kind in file | link) [ ! -e "$1$path" ] && [ ! -L "$1$path" ] || echo "left: $path" ;; esac
        case $kind in config) [ -e "$1$path" ] || echo "gone: $path" ;; esac
    done)
    echo "$left"
    [ -z "$left" ]
}

installed_by_root() {
    local system=$work/system
    chmod 755 "$work"
    must "root's make install, on a system of its own" vendor-check/own-system "$system" bash -ec '
        umask 077
        find /etc /usr/local /var/spool -mindepth 1 | sort >"$0/before"
        env CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0 make CARGO="$1" install
        find /etc /usr/local /var/spool -mindepth 1 -printf "%y %m %u %g %p\n" | sort -k5 >"$0/after"
        /usr/local/sbin/oxim -bV
        getent passwd $(packaging/list | cut -d" " -f3 | sort -u)
        make uninstall
        find /etc /usr/local /var/spool -mindepth 1 ! -type d >"$0/left"' "$work" "$cargo" || return
    meant real >"$work/meant"
    # but the backups that useradd makes
    awk 'NR == FNR { was[$1] = 1; next } !($5 in was)' "$work/before" "$work/after" |
        grep -Ev ' /etc/(passwd|group|shadow|gshadow|subuid|subgid)-$' >"$work/found"
    must "its files, links and directories, owners and modes ($(wc -l <"$work/meant")) are the manifest's" \
        as_meant "$work/meant" "$work/found" root
    must "none of these modes gives anybody too much" harmless "$work/found" root
    packaging/list | awk '$1 == "config" { print $5 }' | sort >"$work/meant"
    must "root's make uninstall leaves the configuration and nothing else" \
        diff "$work/meant" <(sort "$work/left" | comm -23 - "$work/before" |
            grep -Ev '^/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$')
}
