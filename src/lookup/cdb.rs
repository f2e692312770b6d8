//! `cdb`: D. J. Bernstein's constant data base (<https://cr.yp.to/cdb/cdb.txt>).
//!
//! 256 tables of (hash, position) pairs follow the records; the file's first 2048 bytes say where each
//! table is. All numbers are 32 bits, little-endian.

use super::LookupError;
use crate::text::Value;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Longest record, in bytes: a damaged file must not fill memory.
const MAX_DATA: u32 = 16 * 1024 * 1024;

/// The data of the first record with this key.
pub fn find(path: &Path, key: &[u8]) -> Result<Option<Value>, LookupError> {
    let file = super::open(path, "cdb lookup")?;
    let hash = key.iter().fold(5381u32, |hash, byte| (hash << 5).wrapping_add(hash) ^ u32::from(*byte));
    let (table, slots) = pair(&file, (hash & 255) * 8)?;
    if slots == 0 {
        return Ok(None);
    }
    let start = (hash >> 8) % slots;
    for step in 0..slots {
        let slot = (start + step) % slots;
        let (slot_hash, position) = pair(&file, table.wrapping_add(slot.wrapping_mul(8)))?;
        if position == 0 {
            return Ok(None);
        }
        if slot_hash != hash {
            continue;
        }
        let (key_length, data_length) = pair(&file, position)?;
        if key_length as usize != key.len() {
            continue;
        }
        let found = bytes(&file, position.wrapping_add(8), key_length)?;
        if found == key {
            return bytes(&file, position.wrapping_add(8).wrapping_add(key_length), data_length)
                .map(|data| Some(Value::clean(data)));
        }
    }
    Ok(None)
}

fn bytes(file: &File, at: u32, length: u32) -> Result<Vec<u8>, LookupError> {
    if length > MAX_DATA {
        return Err(LookupError::Defer("record of cdb file is too long".into()));
    }
    let mut data = vec![0; length as usize];
    file.read_exact_at(&mut data, u64::from(at))
        .map_err(|error| LookupError::Defer(format!("cdb file cannot be read: {error}")))?;
    Ok(data)
}

fn pair(file: &File, at: u32) -> Result<(u32, u32), LookupError> {
    let data = bytes(file, at, 8)?;
    let number =
        |from: usize| u32::from_le_bytes([data[from], data[from + 1], data[from + 2], data[from + 3]]);
    Ok((number(0), number(4)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// One record, in the form that cdbmake writes.
    fn one_record(key: &[u8], data: &[u8]) -> Vec<u8> {
        let hash = key.iter().fold(5381u32, |hash, byte| (hash << 5).wrapping_add(hash) ^ u32::from(*byte));
        let table = 2048 + 8 + key.len() as u32 + data.len() as u32;
        let mut file = Vec::new();
        for index in 0..256u32 {
            let slots: u32 = if index == hash & 255 { 2 } else { 0 };
            file.extend_from_slice(&table.to_le_bytes());
            file.extend_from_slice(&slots.to_le_bytes());
        }
        file.extend_from_slice(&(key.len() as u32).to_le_bytes());
        file.extend_from_slice(&(data.len() as u32).to_le_bytes());
        file.extend_from_slice(key);
        file.extend_from_slice(data);
        let mut slots = [[0u8; 8]; 2];
        slots[((hash >> 8) % 2) as usize][..4].copy_from_slice(&hash.to_le_bytes());
        slots[((hash >> 8) % 2) as usize][4..].copy_from_slice(&2048u32.to_le_bytes());
        slots.iter().for_each(|slot| file.extend_from_slice(slot));
        file
    }

    #[test]
    fn a_record_is_found_by_its_key_only() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&one_record(b"joe", b"data of joe")).unwrap();
        assert_eq!(find(file.path(), b"joe").unwrap().unwrap().bytes(), "data of joe");
        assert_eq!(find(file.path(), b"jane").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_to_try_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&one_record(b"joe", b"data of joe")[..2060]).unwrap();
        assert!(matches!(find(file.path(), b"joe"), Err(LookupError::Defer(_))));
    }
}
