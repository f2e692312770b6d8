//! Certificate status proofs (RFC 6960): parsed, checked, and judged usable at a time.
