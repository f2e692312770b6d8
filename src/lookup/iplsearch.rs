//! `iplsearch`: a text file whose keys are addresses and networks; the first that holds the key counts.

use super::LookupError;
use super::line_file::LineFile;
use crate::matching::Network;
use crate::text::Value;
use bstr::ByteSlice;
use std::net::IpAddr;
use std::path::Path;

/// The data of the first line that holds the address.
pub fn find(file: &Path, key: &[u8], full: bool) -> Result<Option<Value>, LookupError> {
    let mut lines = LineFile::open(file)?;
    let address: Option<IpAddr> = key.to_str().ok().and_then(|text| text.parse().ok());
    let Some(address) = address else {
        return Err(LookupError::Defer(format!(
            "\"{}\" is not a valid iplsearch key (an IP address, with optional CIDR mask, is wanted): \
             in a host list, use net-iplsearch as the search type",
            key.as_bstr()
        )));
    };
    let data =
        lines.find(full, |each| Ok(Network::parse(each).is_some_and(|network| network.contains(address))))?;
    Ok(data.map(Value::clean))
}
