# Part of vendor-check/run: programs that are linked, what they need of libgnutls, and what they say they can do.

needed() { nm -D --undefined-only "$1" | grep -o 'gnutls_[a-z0-9_]*@[A-Z0-9_]*' | sort -u; }
needs_ocsp() { needed "$1" | grep -q ocsp; }
says() { "$1" -C "$work/conf" "${@:2}"; }
supports_ocsp() { says "$1" -bV | grep '^Support for:' | grep -qw OCSP; }
says_experimental() { says "$1" -bV | grep -q Experimental_OCSP; }
names_gnutls() { says "$1" -bV | grep -q "GnuTLS $2 at build time, $real at run time"; }

# None of them is newer than VERSION, by our table and by the library's own symbol versions.
only_symbols_of() {
    local binary=$1 version=$2 wrong=0 symbol name node since
    for symbol in $(needed "$binary"); do
        name=${symbol%@*} node=${symbol#*@GNUTLS_}
        since=$(awk -v name="$name" '$1 == "name" && $3 == name { print $2 }' "$names")
        if [ -z "$since" ]; then
            echo "$name: not in the table"
            wrong=1
        elif ! at_least "$version" "$since"; then
            echo "$name: since $since"
            wrong=1
        elif [ "$node" != 3_4 ] && ! at_least "$version" "${node//_/.}"; then
            echo "$symbol"
            wrong=1
        fi
    done
    [ $wrong = 0 ] && [ "$(needed "$binary" | wc -l)" -gt 50 ]
}

# The names with OCSP in them that a program lists: main options, options of a transport, macros.
listed() {
    says "$1" -bP | sed -n 's/^\(no_\)\?\([a-z0-9_]*ocsp[a-z0-9_]*\).*/option \2/p'
    says "$1" -bP transports | sed -n 's/^\(no_\)\?\([a-z0-9_]*ocsp[a-z0-9_]*\).*/transport \2/p'
    says "$1" -bP macros | sed -n 's/^\(_\(HAVE\|OPT\)_[A-Z0-9_]*OCSP[A-Z0-9_]*\)=.*/macro \1/p'
}
lists() { listed "$1" | sort | diff "$2" -; }

# takes BINARY KIND NAME: a configuration that sets the option is understood
takes() {
    case $2 in
    option) echo "$3 = /x" >"$work/set" ;;
    transport) printf 'begin transports\nt:\n  driver = smtp\n  %s = *\n' "$3" >"$work/set" ;;
    esac
    ! "$1" -C "$work/set" -bV 2>&1 | grep -q "option \"$3\" unknown"
}

# program NAME BINARY VERSION OCSP: what it needs, and what it says. The names that have to be gone without certificate
# status are those that the program with it lists ($work/with-ocsp).
program() {
    local name=$1 binary=$2 version=$3 check no= kind what
    if [ "$4" = on ]; then check=must; else check=must_not no="not: "; fi
    must "$name: needs no symbol of libgnutls that is newer, or not in the table ($(needed "$binary" | wc -l))" \
        only_symbols_of "$binary" "$version"
    $check "$name: ${no}needs gnutls_*ocsp*" needs_ocsp "$binary"
    printf 'primary_hostname = vendor.check\nbegin transports\nt:\n  driver = smtp\n' >"$work/conf"
    must "$name: -bV" says "$binary" -bV
    $check "$name: ${no}-bV has OCSP in 'Support for:'" supports_ocsp "$binary"
    must_not "$name: not: -bV says Experimental_OCSP" says_experimental "$binary"
    must "$name: -bV names the GnuTLS it was built for and runs with" names_gnutls "$binary" "$version"
    if [ ! -e "$work/with-ocsp" ]; then
        listed "$binary" | sort >"$work/with-ocsp"
        for what in _HAVE_OCSP _HAVE_TLS_OCSP _HAVE_TLS_OCSP_LIST _OPT_MAIN_TLS_OCSP_FILE \
            _OPT_TRANSPORT_SMTP_HOSTS_REQUEST_OCSP _OPT_TRANSPORT_SMTP_HOSTS_REQUIRE_OCSP; do
            must "$name: lists the macro $what" grep -qx "macro $what" "$work/with-ocsp"
        done
    fi
    if [ "$4" = on ]; then
        must "$name: -bP lists the same of OCSP as every program with it" lists "$binary" "$work/with-ocsp"
    else
        must "$name: -bP lists no option and no macro of OCSP" lists "$binary" /dev/null
    fi
    while read -r kind what; do
        if [ "$kind" = macro ]; then
            $check "$name: ${no}-bP macro $what" says "$binary" -bP macro "$what"
        else
            $check "$name: ${no}$what is an option" takes "$binary" "$kind" "$what"
        fi
    done <"$work/with-ocsp"
}

demo_fails() {
    tests/demo/run "$1" && return 1
    grep -q "WRONG: this oxim has no certificate status" "$work/output" && grep -q "step 1 failed" "$work/output"
}

# link VERSION OCSP [CARGO ARGUMENT...]
link() {
    local version=$1 ocsp=$2
    shift 2
    must "GnuTLS $version, OCSP $ocsp $*: links" with "$version" "$ocsp" $cargo build --quiet --locked --bin oxim "$@"
}

programs() {
    echo "== linked programs: the oldest, those on both sides of stapling, the newest here"
    must "build.rs and its tables" prepare || return
    local binary=$CARGO_TARGET_DIR/debug/oxim version ocsp last newer
    last=$(for version in $gates; do at_least "$version" "$stapling" || echo "$version"; done | tail -1)
    newer=$(for version in $gates; do at_least "$version" "$stapling" && echo "$version"; done | sed -n 2p)
    rm -f "$work/with-ocsp"
    for version in "$real" "$newer" "$stapling" "$last" "$floor"; do
        ocsp=on
        at_least "$version" "$stapling" || ocsp=off
        link "$version" on || continue
        program "GnuTLS $version" "$binary" "$version" $ocsp
        [ $ocsp = on ] || must "GnuTLS $version: make demo fails in step 1 and says why" demo_fails "$binary"
    done
    if link "$real" off; then
        program "GnuTLS $real, DISABLE_OCSP" "$binary" "$real" off
        must "DISABLE_OCSP: make demo fails in step 1 and says why" demo_fails "$binary"
    fi
    if link "$real" on --no-default-features; then
        program "GnuTLS $real, without the cargo feature" "$binary" "$real" off
    fi
}

# The tests of TLS as built against other versions; they run with the library that is here.
behaviour() {
    echo "== TLS as built against other versions"
    must "build.rs and its tables" prepare || return
    local tests="--test tls_client --test tls_server --test tls_lists --test tls_stream --test tls_without_ocsp"
    must "GnuTLS $stapling: tests of TLS" with "$stapling" on $cargo test --quiet --locked $tests
    must "GnuTLS $floor: tests of TLS" with "$floor" on $cargo test --quiet --locked $tests
    must "GnuTLS $real, OCSP off: tests of TLS" with "$real" off $cargo test --quiet --locked $tests
}
