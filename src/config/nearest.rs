//! The known name that is nearest to an unknown one, for error messages.

/// No known name is longer; comparing costs the product of both lengths.
const MAX_NAME: usize = 64;

/// The nearest of `known`, if it is near enough to be a help: at most a third of its letters differ.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    known
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// ` (the nearest known name is "x")`, or nothing.
pub fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    match nearest(name, known) {
        Some(known) => format!(" (the nearest known name is \"{known}\")"),
        None => String::new(),
    }
}

/// Levenshtein's distance: letters to put in, take out or change.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, other_letter) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != other_letter);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_a_stranger_is_not() {
        let known = ["qualify_domain", "qualify_recipient", "queue_only"];
        assert_eq!(nearest("qualify_domian", known.into_iter()), Some("qualify_domain"));
        assert_eq!(nearest("foo", known.into_iter()), None);
    }
}
