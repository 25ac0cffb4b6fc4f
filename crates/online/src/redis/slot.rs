//! The hash slot of a key: which node of a cluster has it. Source: the Redis Cluster specification, "Key distribution
//! model".

/// How many slots a cluster has.
pub(super) const SLOTS: u16 = 16_384;

/// The slot of a key. Only what stands between the first `{` and the `}` after it counts, unless that is nothing.
pub(crate) fn slot(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let open = key.iter().position(|&byte| byte == b'{')?;
    let rest = key.get(open + 1..)?;
    let close = rest.iter().position(|&byte| byte == b'}')?;
    rest.get(..close).filter(|tag| !tag.is_empty())
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, &byte| {
        let index = usize::from((crc >> 8) ^ u16::from(byte)) % TABLE.len();
        (crc << 8) ^ TABLE[index]
    })
}

const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte: u16 = 0;
    while byte < 256 {
        let mut crc = byte << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte as usize] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, same_as) in [
            (b"foo".as_slice(), None),
            (b"{user1000}.following", Some(b"user1000".as_slice())),
            (b"foo{}{bar}", None), // an empty tag is none
            (b"foo{{bar}}zap", Some(b"{bar")),
            (b"foo{bar}{zap}", Some(b"bar")),
            (b"foo{bar", None),
            (b"", None),
        ] {
            assert_eq!(slot(key), crc16(same_as.unwrap_or(key)) % SLOTS, "{key:?}");
        }
        assert_eq!(slot(b"foo"), 12_182);
    }
}
