//! The string language: evaluation of expansion trees.
