//! Orders carried out with the rights at hand: where everything runs under one uid, and in tests.

use crate::as_user::order::{Answer, AsUser, Identity, Order};
use crate::transport::appendfile::perform_order;
use std::fs::File;
use std::io;

/// Does what it is told, as whoever runs this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Here;

impl AsUser for Here {
    fn carry_out(&self, _: &Identity, order: &Order, files: &[&File]) -> io::Result<Answer> {
        Ok(perform_order(order, files))
    }
}
