# Part of vendor-check/run: versions of GnuTLS. Which ones matter is read from what build.rs writes beside the bindings
# (gnutls_table.txt: its tables `name -> since`), so that there is no second list: each version that brings a name or a
# condition, and the last one before it. build.rs is run for all of them, and the library is compiled once for each
# different outcome.

# Versions that brought something of TLS or certificate status that is not used here: what is let through has to be what
# the version before them had.
OTHERS="3.0.25 3.1.0 3.1.7 3.1.11 3.2.5 3.3.6 3.3.8 3.4.0 3.4.4 3.4.6 3.4.7 3.5.5 3.5.6 3.6.5 3.6.12 3.6.13 3.7.2"

# at_least VERSION SINCE
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }

# The last version before this one; of a new series, more than any that its predecessor reached.
before() {
    local major minor patch
    IFS=. read -r major minor patch <<<"$1"
    if [ "$patch" -gt 0 ]; then echo "$major.$minor.$((patch - 1))"; else echo "$major.$((minor - 1)).99"; fi
}

# Constants that are newer than the headers here and not newer than VERSION
constants_after() {
    local kind since name
    while read -r kind since name; do
        if [ "$kind" = constant ] && ! at_least "$real" "$since" && at_least "$1" "$since"; then echo "$name"; fi
    done <"$names"
}

# pretend VERSION: a directory whose gnutls.pc says so. For a version newer than the headers here, these are given the
# constants that it brought, each with a value of its own, which is enough to compile.
pretend() {
    local directory=$work/pc-$1 flags="-I$includes" name value=20
    if [ -e "$directory/gnutls.pc" ]; then echo "$directory"; return; fi
    mkdir -p "$directory/gnutls"
    if ! at_least "$real" "$1"; then
        {
            printf '#pragma once\n#include_next <gnutls/gnutls.h>\n'
            for name in $(constants_after "$1"); do echo "enum { $name = 1 << $((value++)) };"; done
        } >"$directory/gnutls/gnutls.h"
        flags="-I$directory $flags"
    fi
    cat >"$directory/gnutls.pc" <<PC
Name: GnuTLS
Description: the library that is here, under another version
Version: $1
Libs: -L$libraries -lgnutls
Cflags: $flags
PC
    echo "$directory"
}

# with VERSION OCSP COMMAND...: runs it as with that GnuTLS; OCSP is "on" or "off"
with() {
    local version=$1 disable=
    [ "$2" != off ] || disable=yes
    shift 2
    if [ "$version" = "$real" ]; then
        DISABLE_OCSP=$disable "$@"
    else
        DISABLE_OCSP=$disable PKG_CONFIG_PATH=$(pretend "$version") "$@"
    fi
}

# built KIND NAME: the file that cargo's messages say was built for a target of oxim
built() {
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    target = message.get("target", {})
    if message["reason"] == "compiler-artifact" and target["kind"] == [sys.argv[1]] and target["name"] == sys.argv[2] \
            and "oxim" in message["package_id"].rpartition("/")[2]:
        print(message["executable"] or message["filenames"][0])' "$1" "$2"
}

# Compiles build.rs and the test of its tables, and reads the tables; once.
prepare() {
    [ -z "${script-}" ] || return 0
    host=$(rustc -vV | sed -n 's/^host: //p')
    $cargo build --quiet --locked --test gnutls_table --message-format=json >"$work/messages" || return
    script=$(built custom-build build-script-build <"$work/messages")
    table_test=$(built test gnutls_table <"$work/messages")
    [ -x "$script" ] && [ -x "$table_test" ] || { script=; return 1; }
    names=/dev/null
    play "$real" on || return
    names=$work/out/$real-on/gnutls_table.txt
    floor=$(awk '$1 == "floor" { print $2 }' "$names")
    stapling=$(awk '$3 == "ocsp_stapling" { print $2 }' "$names")
    gates=$({ awk 'NF == 3 { print $2 }' "$names"; echo "$real"; } | sort -Vu |
        while read -r version; do ! at_least "$version" "$floor" || echo "$version"; done)
}

# play VERSION OCSP: what build.rs makes of it, into $work/out/VERSION-OCSP
play() {
    local out=$work/out/$1-$2
    mkdir -p "$out"
    OUT_DIR=$out CARGO_FEATURE_OCSP=1 HOST=$host TARGET=$host with "$1" "$2" "$script" >"$out/said" 2>"$out/errors" ||
        { cat "$out/errors"; return 1; }
    grep '^cargo::rustc-cfg=' "$out/said" | sort >"$out/conditions"
    # the version stands in the table, not in what is compiled
    cat "$out/conditions" "$out/gnutls_sys.rs" | sha256sum | cut -d' ' -f1 >"$out/outcome"
}

# The versions that are tried: each gate, the last version before it, and the others.
versions() {
    local version
    {
        for version in $gates; do
            echo "$version"
            [ "$version" = "$floor" ] || before "$version"
        done
        printf '%s\n' $OTHERS
    } | sort -Vu
}

exact() {
    OXIM_GNUTLS_BINDINGS=$1 "$table_test" --exact the_bindings_have_exactly_the_names_of_the_table_that_the_version_had
}

conditions() {
    local kind since name
    while read -r kind since name; do
        if [ "$kind" = gate ] && at_least "$1" "$since" && { [ "$name" != ocsp_stapling ] || [ "$2" = on ]; }; then
            echo "cargo::rustc-cfg=$name"
        fi
    done <"$names" | sort | diff - "$work/out/$1-$2/conditions"
}

gating() {
    echo "== what build.rs lets through of each GnuTLS (here: $real)"
    must "build.rs and its tables" prepare || return
    local version ocsp value expected
    for version in $(versions); do
        pretend "$version" >/dev/null
        for ocsp in on off; do play "$version" $ocsp >/dev/null & done
        wait
    done
    for version in $(versions); do
        for ocsp in on off; do
            must "GnuTLS $version, OCSP $ocsp: exactly the names that it had, constants and types included" \
                exact "$work/out/$version-$ocsp"
            must "GnuTLS $version, OCSP $ocsp: exactly the conditions of its gates" conditions "$version" $ocsp
        done
    done
    must_not "GnuTLS $(before "$floor"): the floor is $floor" play "$(before "$floor")" on
    # this test can fail: the bindings of today under the table of the floor, and the other way round
    mkdir "$work/out/wrong" "$work/out/poor"
    cp "$work/out/$real-on/gnutls_sys.rs" "$work/out/$floor-on/gnutls_table.txt" "$work/out/wrong"
    cp "$work/out/$floor-on/gnutls_sys.rs" "$work/out/$real-on/gnutls_table.txt" "$work/out/poor"
    must_not "names too many would be seen" exact "$work/out/wrong"
    must_not "names too few would be seen" exact "$work/out/poor"
    must "the library's own symbol versions agree with the table" symbol_versions
    must "the code names nothing outside of the table" "$table_test" --exact \
        the_code_names_nothing_of_gnutls_outside_of_the_table_and_the_table_nothing_that_it_does_not_use
    disabling
}

# What a symbol version of libgnutls says of a function is a witness of its own. GNUTLS_3_4 is the
# oldest there is now, and has what came up to 3.5: the next is GNUTLS_3_6_0.
symbol_versions() {
    local symbol node since wrong=0 seen=0
    nm -D --defined-only "$libraries/libgnutls.so" | sed -n 's/.* \(gnutls_[a-z0-9_]*\)@@GNUTLS_\([0-9_]*\)$/\1 \2/p' |
        tr _ . | sed 's/ / /' >"$work/symbols"
    while read -r since symbol; do
        node=$(awk -v name="${symbol//_/.}" '$1 == name { print $2 }' "$work/symbols")
        [ -n "$node" ] || continue # a type, or newer than the library here
        seen=$((seen + 1))
        if [ "$node" != 3.4 ] && [ "$node" != "$since" ]; then
            echo "$symbol: since $since in the table, $node in the library"
            wrong=1
        fi
        if [ "$node" = 3.4 ] && at_least "$since" 3.6; then
            echo "$symbol: since $since in the table, and 3.5 had it"
            wrong=1
        fi
    done < <(awk '$1 == "name" { print $2, $3 }' "$names")
    [ $wrong = 0 ] && [ $seen -gt 50 ]
}

# has_stapling FEATURE VALUE: with the cargo feature (1 or empty) and DISABLE_OCSP so
has_stapling() (
    out=$work/out/disabling
    mkdir -p "$out"
    if [ -n "$1" ]; then export CARGO_FEATURE_OCSP=1; else unset CARGO_FEATURE_OCSP; fi
    OUT_DIR=$out HOST=$host TARGET=$host DISABLE_OCSP=$2 "$script" >"$out/said" 2>&1 || exit 2
    grep -qx 'cargo::rustc-cfg=ocsp_stapling' "$out/said"
)
make_keeps_feature() { ! make -n "$@" all | grep -q -- --no-default-features; }

disabling() {
    local value
    must "DISABLE_OCSP unset: certificate status is in" has_stapling 1 ''
    must "make: likewise" make_keeps_feature
    must "DISABLE_OCSP=no: certificate status is in" has_stapling 1 no
    must "make DISABLE_OCSP=no: likewise" make_keeps_feature DISABLE_OCSP=no
    for value in yes 1 true; do
        must_not "DISABLE_OCSP=$value: it is not" has_stapling 1 $value
        must_not "make DISABLE_OCSP=$value: likewise" make_keeps_feature DISABLE_OCSP=$value
    done
    must_not "without the cargo feature: it is not" has_stapling '' ''
    must_not "without the cargo feature, DISABLE_OCSP=no: it is not" has_stapling '' no
}

# Compiles without a warning.
compiles() {
    local said
    said=$("$@" 2>&1) || { echo "$said"; return 1; }
    [ -z "$said" ] || { echo "$said"; return 1; }
}

matrix() {
    echo "== the library compiled for each different outcome of build.rs"
    must "build.rs and its tables" prepare || return
    local version ocsp outcome
    local -A seen=()
    for version in $(printf '%s\n' $gates $OTHERS | sort -Vu); do
        for ocsp in on off; do
            play "$version" $ocsp >"$work/output" || { fail "build.rs for GnuTLS $version"; continue; }
            outcome=$(cat "$work/out/$version-$ocsp/outcome")
            if [ -n "${seen[$outcome]-}" ]; then
                echo "        GnuTLS $version, OCSP $ocsp: the same as ${seen[$outcome]}"
                continue
            fi
            seen[$outcome]="GnuTLS $version, OCSP $ocsp"
            must "GnuTLS $version, OCSP $ocsp: compiles without a warning" \
                compiles with "$version" $ocsp $cargo check --quiet --locked --lib
        done
    done
    must "GnuTLS $real, without the cargo feature ocsp: compiles without a warning" \
        compiles $cargo check --quiet --locked --lib --no-default-features
}
