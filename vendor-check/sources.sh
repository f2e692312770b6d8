# Part of vendor-check/run: the crates that oxim is built from, their licences, and a build of them without a network.

licences() {
    echo "== licences and sources of all crates"
    must "cargo metadata" $cargo metadata --format-version 1 --locked || return
    cp "$work/output" "$work/metadata"
    must "every crate is under a permissive licence" python3 vendor-check/licences.py "$work/metadata"
    grep -h crates "$work/output"
    must "one that is not would be seen" python3 vendor-check/licences.py --self-test
    must_not "a crate comes from elsewhere than crates.io" \
        eval "grep '^source = ' Cargo.lock | grep -v '^source = \"registry+https://github.com/rust-lang/crates.io-index\"\$'"
    must "every crate has its checksum" \
        eval "[ \$(grep -c '^source = ' Cargo.lock) = \$(grep -c '^checksum = ' Cargo.lock) ]"
}

# The files of a release: what git has, or everything but what was built.
copy_sources() {
    mkdir -p "$work/source"
    if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work/source"
    else
        tar -c --exclude=./target . | tar -x -C "$work/source"
    fi
}

alone() {
    if unshare -n true 2>/dev/null; then unshare -n "$@"; else "$@"; fi
}
has_no_network() { alone sh -c '! cat /proc/net/route | grep -q "	00000000	"'; }

# The program of the vendored sources, as a build machine makes it: no network, no registry, nothing else of ours.
offline() {
    echo "== vendored sources, no network"
    must "the files of a release" copy_sources || return
    must "cargo vendor" $cargo vendor --quiet --locked --manifest-path "$work/source/Cargo.toml" "$work/source/vendor" ||
        return
    mkdir -p "$work/home" "$work/source/.cargo"
    printf '[source.crates-io]\nreplace-with = "vendored"\n[source.vendored]\ndirectory = "vendor"\n' \
        >"$work/source/.cargo/config.toml"
    if unshare -n true 2>/dev/null; then
        must "a namespace without a network" has_no_network
    else
        echo "        (no network namespace to be had: cargo is only told to be offline)"
    fi
    must "it builds from them" alone env -C "$work/source" CARGO_HOME="$work/home" CARGO_TARGET_DIR="$work/target" \
        $cargo build --quiet --locked --offline --bin oxim || return
    must "nothing was fetched" eval "[ ! -e '$work/home/registry/cache' ]"
    echo 'primary_hostname = vendor.check' >"$work/conf"
    must "the program runs" says "$work/target/debug/oxim" -bV
}
