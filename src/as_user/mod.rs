//! The orders that need a user's rights: types only.
