//! `cargo fuzz run row_codec`: looks for bytes on which reading a packed row breaks its promises.

#![no_main]

mod row_codec;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for layout in row_codec::layouts() {
        row_codec::check(&layout, bytes);
    }
});
