# Reads packaging/manifest: the paths that the settings of the Makefile give, and each entry in turn.
: "${PREFIX:=/usr/local}" "${SYSCONFDIR:=/etc}" "${SPOOL_DIRECTORY:=/var/spool/oxim}" "${DESTDIR:=}"
: "${OXIM_USER:=oxim}" "${OXIM_GROUP:=oxim}"
: "${OXIM_KEEPER_USER:=oxim-keeper}" "${OXIM_KEEPER_GROUP:=oxim-keeper}"
BINDIR=$PREFIX/bin SBINDIR=$PREFIX/sbin LIBDIR=$PREFIX/lib MANDIR=$PREFIX/share/man
DOCDIR=$PREFIX/share/doc/oxim SPOOL=$SPOOL_DIRECTORY
# the example configuration goes to the first place where the program looks for one
CONFIG_FILE=${OXIM_CONFIGURE_FILE:-$SYSCONFDIR/oxim/oxim.conf}
CONFIG_FILE=${CONFIG_FILE%%:*}
TRUSTED_CONFIGS=${OXIM_TRUSTED_CONFIG_LIST:-$SYSCONFDIR/oxim/trusted_configs}
# the directory of the first log file that is one
LOG=$(echo "${OXIM_LOG_FILE_PATH:-}" | tr : '\n' | sed -n 's|^ *\(/.*\)/[^/]*$|\1|p' | head -1)
: "${LOG:=$SPOOL/log}"
case $PREFIX in
    /usr) : "${UNITDIR:=/lib/systemd/system}" ;;
    *) : "${UNITDIR:=/etc/systemd/system}" ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)

# owner_of OWNER: sets user and group as the settings name them
owner_of() {
    user=${1%%:*} group=${1##*:}
    case $user in oxim) user=$OXIM_USER ;; keeper) user=$OXIM_KEEPER_USER ;; esac
    case $group in oxim) group=$OXIM_GROUP ;; keeper) group=$OXIM_KEEPER_GROUP ;; esac
}

# each_entry FUNCTION: calls it with KIND MODE OWNER PATH SOURCE, names replaced
each_entry() {
    grep -v '^#' "$root/packaging/manifest" | while read -r kind mode owner path source; do
        eval "path=\"$path\"; source=\"$source\""
        "$1" "$kind" "$mode" "$owner" "$path" "$source" || exit 1
    done
}
