//! The nearest valid name, for "did you mean". Source of the measure: Damerau and Levenshtein, as in `strsim`.

/// The candidate nearest to `text`, if one is near enough to be what was meant: at most a third of its letters differ.
pub fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&text.to_lowercase(), &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, candidate)| {
            *distance
                <= candidate
                    .chars()
                    .count()
                    .max(text.chars().count())
                    .div_ceil(3)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_near_name_is_suggested() {
        let known = ["airport", "carrier", "plane"];
        for (text, want) in [
            ("airprot", Some("airport")),
            ("Carrier", Some("carrier")),
            ("plan", Some("plane")),
            ("weather", None),
        ] {
            assert_eq!(nearest(text, known), want, "{text}");
        }
    }
}
