//! Variables that routing, verifying or delivering one address sets.

use super::variable::{Row, number, outside, own};

/// Name to value.
pub const TABLE: &[Row] = &[
    ("address_data", |c| c.address.address_data.clone()),
    ("address_file", |c| c.address.address_file.clone()),
    ("address_pipe", |c| c.address.address_pipe.clone()),
    ("domain", |c| c.address.domain.clone()),
    ("domain_data", |c| c.dynamic.borrow().domain_data.clone()),
    ("home", |c| c.address.home.clone()),
    ("host", |c| c.address.host.clone()),
    ("host_address", |c| c.address.host_address.clone()),
    ("host_data", |c| c.dynamic.borrow().host_data.clone()),
    ("host_port", |c| number(c.address.host_port.unwrap_or(0))),
    ("local_part", |c| c.address.local_part.clone()),
    ("local_part_data", |c| c.dynamic.borrow().local_part_data.clone()),
    ("local_part_prefix", |c| c.address.local_part_prefix.clone()),
    ("local_part_prefix_v", |c| c.address.local_part_prefix_v.clone()),
    ("local_part_suffix", |c| c.address.local_part_suffix.clone()),
    ("local_part_suffix_v", |c| c.address.local_part_suffix_v.clone()),
    // Exim shows its "no such id" where no local user was found.
    ("local_user_gid", |c| number(c.address.local_user.map_or(u32::MAX, |(_, gid)| gid))),
    ("local_user_uid", |c| number(c.address.local_user.map_or(u32::MAX, |(uid, _)| uid))),
    ("original_domain", |c| c.address.original.as_ref().and_then(|a| outside(a.domain()))),
    ("original_local_part", |c| c.address.original.as_ref().and_then(|a| outside(a.local_part()))),
    ("parent_domain", |c| c.address.parent.as_ref().and_then(|a| outside(a.domain()))),
    ("parent_local_part", |c| c.address.parent.as_ref().and_then(|a| outside(a.local_part()))),
    ("recipient_data", |c| c.dynamic.borrow().recipient_data.clone()),
    ("recipient_verify_failure", |c| own(&c.dynamic.borrow().recipient_verify_failure)),
    ("router_name", |c| own(&c.address.router_name)),
    ("self_hostname", |c| c.address.self_hostname.as_deref().and_then(|name| outside(name))),
    ("sender_address_data", |c| c.dynamic.borrow().sender_address_data.clone()),
    ("sender_data", |c| c.dynamic.borrow().sender_data.clone()),
    ("sender_verify_failure", |c| own(&c.dynamic.borrow().sender_verify_failure)),
    ("sending_ip_address", |c| c.address.sending.and_then(|(ip, _)| number(ip))),
    ("sending_port", |c| number(c.address.sending.map_or(-1, |(_, port)| i32::from(port)))),
    ("transport_name", |c| own(&c.address.transport_name)),
];
