//! What must be true of any bytes that are read as a packed row. The fuzzer calls it, and so does a test of the workspace.

use vintner_online::{RowLayout, row::Row};
use vintner_registry::model::Layout;

/// Where a row has the fingerprint of its layout.
const FINGERPRINT: std::ops::Range<usize> = 17..21;

/// Layouts that have every type, every kind of slot, and a bitmap of none, one and two bytes.
pub(super) fn layouts() -> Vec<RowLayout> {
    [
        "",
        "a:int64",
        "b:bool i:int32 f:float32 d:float64 t:timestamp",
        "s:string n:string e:string x:bytes",
        "v:list<float32> w:list<string> z:list<int32>",
        "b:list<bool> i:list<int64> d:list<float64> t:list<timestamp> x:list<bytes>",
        "a:bool b:string c:bool d:list<string> e:int32 f:bytes g:bool h:string i:float64",
    ]
    .map(layout)
    .into()
}

fn layout(fields: &str) -> RowLayout {
    let field = |text: &str| {
        let (name, feature_type) = text.split_once(':')?;
        Some((name.parse().ok()?, feature_type.parse().ok()?))
    };
    let fields = fields.split_whitespace().map(field);
    RowLayout::new(&Layout {
        fields: fields.collect::<Option<_>>().expect("the fields are valid"),
    })
}

/// Reads the bytes as they are, and as if they said that they are of the layout.
///
/// # Panics
/// When reading panics, or when what is read is encoded in another way than in these bytes.
pub(super) fn check(layout: &RowLayout, bytes: &[u8]) {
    check_exactly(layout, bytes);
    let mut bytes = bytes.to_vec();
    if let Some(fingerprint) = bytes.get_mut(FINGERPRINT) {
        fingerprint.copy_from_slice(&layout.fingerprint().to_le_bytes());
        check_exactly(layout, &bytes);
    }
}

fn check_exactly(layout: &RowLayout, bytes: &[u8]) {
    let Ok(row) = Row::parse(layout, bytes) else {
        return;
    };
    // One feature's damage must not hide what another does.
    for position in 0..layout.len() {
        drop(row.value(position));
    }
    if let Ok(values) = row.values() {
        let again = layout.pack(row.time(), &values);
        let again = again.expect("what was read can be written");
        assert_eq!(again.as_bytes(), bytes, "{values:?}");
    }
}
