//! Suggests the name that somebody may have meant.

/// Longer names are not compared: nobody types them.
const MAX_CHARS: usize = 100;
/// At most this many names are compared.
const MAX_NAMES: usize = 10_000;

/// Returns the name nearest to `name`, if one is near: it differs only in case, one contains the other, or at most a
/// third of the letters differ.
pub fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = name.to_lowercase().chars().take(MAX_CHARS + 1).collect();
    if wanted.is_empty() || wanted.len() > MAX_CHARS {
        return None;
    }
    let ranked = names.into_iter().take(MAX_NAMES).filter_map(|candidate| {
        let found: Vec<char> = candidate.to_lowercase().chars().take(MAX_CHARS + 1).collect();
        if found.is_empty() || found.len() > MAX_CHARS {
            return None;
        }
        let distance = distance(&wanted, &found);
        let is_part = |a: &[char], b: &[char]| a.len() >= 3 && b.windows(a.len()).any(|part| part == a);
        let is_near = distance * 3 <= wanted.len().max(found.len());
        (is_near || is_part(&wanted, &found) || is_part(&found, &wanted)).then_some((distance, candidate))
    });
    ranked.min_by_key(|(distance, _)| *distance).map(|(_, candidate)| candidate)
}

/// The start of a hint that lists names: `did you mean …? ` if one of them is near.
pub fn did_you_mean<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, names).map_or_else(String::new, |near| format!("did you mean `{near}`? "))
}

/// The edit distance: how many letters to insert, remove, replace, or swap with the next one.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows = [vec![0; b.len() + 1], (0..=b.len()).collect::<Vec<usize>>(), vec![0; b.len() + 1]];
    for (i, &x) in a.iter().enumerate() {
        let [older, last, row] = &mut rows;
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            row[j + 1] = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && x == b[j - 1] && a[i - 1] == y {
                row[j + 1] = row[j + 1].min(older[j - 1] + 1);
            }
        }
        rows.rotate_left(1);
    }
    rows[1][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let names = ["image", "input_ids", "attention_mask", "x"];
        for (name, meant) in [
            ("imgae", Some("image")),
            ("Image", Some("image")),
            ("img", None),
            ("images", Some("image")),
            ("inputids", Some("input_ids")),
            ("ids", Some("input_ids")),
            ("mask", Some("attention_mask")),
            ("attention-mask", Some("attention_mask")),
            ("X", Some("x")),
            ("y", None),
            ("pixels", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), meant, "{name}");
        }
        assert_eq!(nearest(&"a".repeat(1_000_000), names), None);
        assert_eq!(nearest("a", [&*"b".repeat(1_000_000)]), None);
    }

    #[test]
    fn distances() {
        let chars = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, n) in
            [("", "", 0), ("", "ab", 2), ("kitten", "sitting", 3), ("ab", "ba", 1), ("abc", "abc", 0)]
        {
            assert_eq!((distance(&chars(a), &chars(b)), distance(&chars(b), &chars(a))), (n, n), "{a} {b}");
        }
    }
}
