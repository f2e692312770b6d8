//! Verification of an address by the routers: what ACLs, `errors_to` and `-bv` ask.

use super::chain::{Chain, How};
use super::item::{Item, Routed, Trouble};
use crate::expand::Context;
use crate::log::{Selector, Which};
use crate::mail::Address;
use crate::mail::host_text::full_host;
use crate::upward::{Verified, Verifier};
use bstr::{BString, ByteSlice};

/// More rounds of redirection than this are a loop that the loop test does not see.
const ROUNDS_MAX: usize = 100;

impl Verifier for Chain {
    fn verify(&self, context: &Context, address: &Address, as_sender: bool) -> Verified {
        let how = if as_sender { How::VerifySender } else { How::VerifyRecipient };
        let mut own = context.clone();
        verify(self, &mut own, address, how)
    }
}

/// Routes the address. Of a redirection to one address that address is verified in turn; to several, the
/// first address counts as verified (spec section on verifying addresses).
pub fn verify(chain: &Chain, context: &mut Context, address: &Address, how: How) -> Verified {
    let mut item = Item::new(address.clone(), 0);
    for _ in 0..ROUNDS_MAX {
        // Of an `unseen` router's answers the last counts: that of the copy that went on.
        let Some(answer) = chain.route(context, item, how).pop() else { break };
        log_remark(context, &answer);
        match answer {
            Routed::Assigned(item) => {
                return Verified::Ok { address_data: item.address_data };
            }
            Routed::Discarded(item, _) => return Verified::Ok { address_data: item.address_data },
            Routed::Children { item: parent, mut children, .. } => match children.pop() {
                Some(only) if children.is_empty() && only.special.is_none() => item = only,
                _ => return Verified::Ok { address_data: parent.address_data },
            },
            Routed::Failed(_, trouble) => {
                return Verified::Failed {
                    message: trouble.text.clone(),
                    log_message: trouble.text.clone(),
                    forced: trouble.for_peer,
                };
            }
            Routed::Deferred(_, trouble) => {
                return Verified::Deferred { message: peer_text(&trouble), log_message: trouble.text };
            }
        }
    }
    let text = BString::from("too many redirections");
    Verified::Deferred { message: text.clone(), log_message: text }
}

/// What routing found out goes into the log, with the connection it was for.
pub(super) fn log_remark(context: &Context, answer: &Routed) {
    let (Routed::Failed(item, trouble) | Routed::Deferred(item, trouble)) = answer else { return };
    let log = &context.globals.log;
    let peer = full_host(&context.session.origin, log.selectors().has(Selector::IncomingPort));
    let line = trouble.remark.as_ref().and_then(|remark| {
        let address = item.address.to_bytes();
        remark.without_message(address.as_bstr(), peer.as_bstr())
    });
    if let Some(line) = line {
        log.write(Which::Main, line.as_bstr());
    }
}

/// What the peer hears of a deferral: a text that was meant for it, or nothing of its own. Ours may tell of files,
/// hosts and look-ups.
fn peer_text(trouble: &Trouble) -> BString {
    if trouble.for_peer { trouble.text.clone() } else { BString::default() }
}

/// Can errors go to this address? The sender is null while it is verified.
pub fn is_routable(chain: &Chain, context: &Context, address: &Address) -> bool {
    let mut own = context.clone();
    own.message.sender = Some(Address::null());
    matches!(verify(chain, &mut own, address, How::VerifyRecipient), Verified::Ok { .. })
}

/// The text of a verification that did not succeed, for `-bv`.
pub fn text_of(verified: &Verified) -> &[u8] {
    match verified {
        Verified::Ok { .. } => b"verified",
        Verified::Failed { log_message, .. } | Verified::Deferred { log_message, .. } => {
            log_message.as_bytes()
        }
    }
}
