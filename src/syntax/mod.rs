//! Expansion text and ACL text to trees: pure, with positions.
