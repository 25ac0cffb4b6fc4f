//! Answers of a server as bytes: where one ends, and the values in it, without a copy of any.
//!
//! Only what reads need. Everything else goes through the redis crate. Source:
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/> (RESP2).
//!
//! Holds always: no bytes make this panic or set aside more memory than there are bytes.

use std::ops::Range;

use bytes::Bytes;

/// How deep arrays may stand in arrays.
const DEEPEST: usize = 8;

/// Bytes that are no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's bytes are not of its protocol")]
pub(super) struct Malformed;

/// How long the first answer in these bytes is; none when its end has not come yet.
pub(super) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    end_of(bytes, 0, DEEPEST)
}

/// The values of an array of strings; none when the answer is something else, such as an error.
pub(super) fn strings(answer: &Bytes) -> Result<Option<Vec<Option<Bytes>>>, Malformed> {
    let Some((count, mut at)) = sized(answer, 0, b'*')? else {
        return Ok(None);
    };
    let Some(count) = count else { return Ok(None) };
    // Every value has at least four bytes.
    let mut values = Vec::with_capacity(count.min(answer.len() / 4 + 1));
    for _ in 0..count {
        let Some((length, start)) = sized(answer, at, b'$')? else {
            return Ok(None);
        };
        let Some(length) = length else {
            values.push(None);
            at = start;
            continue;
        };
        let end = start.checked_add(length).ok_or(Malformed)?;
        if answer.get(end..end + 2) != Some(b"\r\n") {
            return Err(Malformed);
        }
        values.push(Some(answer.slice(start..end)));
        at = end + 2;
    }
    Ok(Some(values))
}

/// Where the answer that begins at a place ends.
fn end_of(bytes: &[u8], at: usize, depth: usize) -> Result<Option<usize>, Malformed> {
    let Some(kind) = bytes.get(at) else {
        return Ok(None);
    };
    match kind {
        b'+' | b'-' | b':' => Ok(line(bytes, at + 1).map(|line| line.end + 2)),
        b'$' => match header(bytes, at)? {
            None => Ok(None),
            Some((None, next)) => Ok(Some(next)),
            Some((Some(length), next)) => {
                let end = next
                    .checked_add(length)
                    .and_then(|end| end.checked_add(2))
                    .ok_or(Malformed)?;
                match bytes.get(end - 2..end) {
                    None => Ok(None),
                    Some(b"\r\n") => Ok(Some(end)),
                    Some(_) => Err(Malformed),
                }
            }
        },
        b'*' => {
            let Some((count, mut next)) = header(bytes, at)? else {
                return Ok(None);
            };
            let depth = depth.checked_sub(1).ok_or(Malformed)?;
            for _ in 0..count.unwrap_or(0) {
                match end_of(bytes, next, depth)? {
                    None => return Ok(None),
                    Some(end) => next = end,
                }
            }
            Ok(Some(next))
        }
        _ => Err(Malformed),
    }
}

/// As [`header`], when the answer at this place is of this kind and whole.
fn sized(bytes: &[u8], at: usize, kind: u8) -> Result<Option<(Option<usize>, usize)>, Malformed> {
    match bytes.get(at) {
        Some(found) if *found == kind => header(bytes, at)?.ok_or(Malformed).map(Some),
        Some(_) => Ok(None),
        None => Err(Malformed),
    }
}

/// The number after the kind, which is none for a null, and where what it counts begins. None when the line has not
/// ended.
fn header(bytes: &[u8], at: usize) -> Result<Option<(Option<usize>, usize)>, Malformed> {
    let Some(line) = line(bytes, at + 1) else {
        return Ok(None);
    };
    let next = line.end + 2;
    let digits = bytes.get(line).unwrap_or_default();
    if digits == b"-1" {
        return Ok(Some((None, next)));
    }
    let is_number = !digits.is_empty() && digits.len() <= 10;
    let number = digits.iter().try_fold(0_usize, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| usize::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    });
    match number.filter(|_| is_number) {
        Some(number) => Ok(Some((Some(number), next))),
        None => Err(Malformed),
    }
}

/// The line that begins at a place, without its end; none when it has not ended.
fn line(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let rest = bytes.get(at..)?;
    let length = rest.windows(2).position(|pair| pair == b"\r\n")?;
    Some(at..at + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_answer_ends_where_it_ends_however_it_is_cut() {
        for answer in [
            &b"+OK\r\n"[..],
            b"-ERR no\r\n",
            b":1\r\n",
            b"$-1\r\n",
            b"$0\r\n\r\n",
            b"$5\r\na\r\nb\0\r\n",
            b"*-1\r\n",
            b"*0\r\n",
            b"*3\r\n$1\r\na\r\n$-1\r\n:7\r\n",
            b"*2\r\n*1\r\n+a\r\n*0\r\n",
        ] {
            let followed = [answer, b"+next\r\n"].concat();
            assert_eq!(length(&followed), Ok(Some(answer.len())), "{answer:?}");
            for cut in 0..answer.len() {
                assert_eq!(length(&answer[..cut]), Ok(None), "{answer:?} cut at {cut}");
            }
        }
        let deep = b"*1\r\n".repeat(DEEPEST + 1);
        for wrong in [
            &b"x\r\n"[..],
            b"$a\r\n",
            b"$\r\n",
            b"$1\r\nab\r\n",
            b"*-2\r\n",
            &deep,
        ] {
            assert_eq!(length(wrong), Err(Malformed), "{wrong:?}");
        }
        // A length that no server has is not believed.
        assert_eq!(length(b"$99999999999\r\n"), Err(Malformed));
    }

    #[test]
    fn strings_are_those_of_an_array_and_of_nothing_else() {
        let read = |answer: &'static [u8]| strings(&Bytes::from_static(answer));
        let some = |text: &'static [u8]| Some(Bytes::from_static(text));
        assert_eq!(
            read(b"*3\r\n$2\r\n\r\n\r\n$-1\r\n$0\r\n\r\n"),
            Ok(Some(vec![some(b"\r\n"), None, some(b"")]))
        );
        for other in [&b"-ERR no\r\n"[..], b"*1\r\n:1\r\n", b"*-1\r\n", b"+OK\r\n"] {
            assert_eq!(strings(&Bytes::from_static(other)), Ok(None), "{other:?}");
        }
        for cut in [
            &b"*2\r\n$1\r\na\r\n"[..],
            b"*1\r\n$3\r\nab",
            b"*1\r\n$1\r\nabc",
            b"",
        ] {
            assert_eq!(strings(&Bytes::from_static(cut)), Err(Malformed), "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"*$+-:\r\n0123456789".to_vec()),
                1 => any::<u8>(),
            ],
            0..60,
        )) {
            if let Ok(Some(end)) = length(&bytes) {
                prop_assert!(end <= bytes.len());
                // Bytes that have come are not looked at in another way when more come.
                let more = [&bytes[..], b"*1\r\n"].concat();
                prop_assert_eq!(length(&more), Ok(Some(end)));
            }
            let _ = strings(&Bytes::from(bytes));
        }
    }
}
