# Reads packaging/manifest: the paths that the settings of the Makefile give, and each entry in turn.
: "${PREFIX:=/usr/local}" "${SYSCONFDIR:=/etc}" "${SPOOL_DIRECTORY:=/var/spool/oxim}" "${DESTDIR:=}"
: "${OXIM_USER:=oxim}" "${OXIM_GROUP:=oxim}"
BINDIR=$PREFIX/bin SBINDIR=$PREFIX/sbin LIBDIR=$PREFIX/lib MANDIR=$PREFIX/share/man
DOCDIR=$PREFIX/share/doc/oxim SPOOL=$SPOOL_DIRECTORY
case $PREFIX in
    /usr) UNITDIR=/lib/systemd/system ;;
    *) UNITDIR=/etc/systemd/system ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)

# each_entry FUNCTION: calls it with KIND MODE OWNER PATH SOURCE, names replaced
each_entry() {
    grep -v '^#' "$root/packaging/manifest" | while read -r kind mode owner path source; do
        eval "path=\"$path\"; source=\"$source\""
        "$1" "$kind" "$mode" "$owner" "$path" "$source" || exit 1
    done
}
