use proptest::prelude::*;

use super::*;

/// Reads everything through the guard, from a stream that gives `chunk` bytes at a time.
fn through(bytes: &[u8], chunk: usize) -> Vec<u8> {
    struct Chunks<'a>(&'a [u8], usize);
    impl AsyncRead for Chunks<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
            let count = self.1.min(out.len()).min(self.0.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Poll::Ready(Ok(count))
        }
    }
    let mut guarded = Guarded::new(Chunks(bytes, chunk));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut out = Vec::new();
    let mut buffer = [0; 1000];
    while let Poll::Ready(Ok(count @ 1..)) = Pin::new(&mut guarded).poll_read(&mut cx, &mut buffer) {
        out.extend_from_slice(&buffer[..count]);
    }
    out
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap()], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    [&[kind, 0, 1][..], &long(payload), &[0xce]].concat()
}

fn header(flags: u16, properties: &[u8]) -> Vec<u8> {
    frame(2, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9][..], &flags.to_be_bytes(), properties].concat())
}

fn deliver(key: &[u8]) -> Vec<u8> {
    frame(1, &[&[0, 60, 0, 60][..], &short(b"ctag"), &[0, 0, 0, 0, 0, 0, 0, 7, 1], &short(b"ex"), &short(key)].concat())
}

/// A header table whose one value is nested so deep.
fn nested(kind: u8, levels: usize) -> Vec<u8> {
    let mut value = vec![b'V'];
    for _ in 0..levels {
        let entry = if kind == b'F' { [&short(b"k")[..], &value].concat() } else { value };
        value = [&[kind][..], &long(&entry)].concat();
    }
    long(&[&short(b"h")[..], &value].concat())
}

#[test]
fn what_is_not_utf_8_is_substituted_byte_by_byte() {
    for (before, after) in [
        (&b"caf\xe9"[..], &b"caf\x1a"[..]),
        (b"\xff\xfe", b"\x1a\x1a"),
        (b"a\xe2\x82b", b"a\x1a\x1ab"),
        (b"end\xe2\x82", b"end\x1a\x1a"),
        ("gr\u{fc}n \u{20ac}".as_bytes(), "gr\u{fc}n \u{20ac}".as_bytes()),
    ] {
        assert_eq!(through(&deliver(before), 1000), deliver(after));
        assert_eq!(through(&header(1 << 7, &short(before)), 1000), header(1 << 7, &short(after)));
        // In a header table too, as a name; as a value it may be anything.
        let table = |name: &[u8]| long(&[&short(name)[..], b"S", &long(b"\xff")].concat());
        assert_eq!(through(&header(1 << 13, &table(before)), 1000), header(1 << 13, &table(after)));
    }
}

#[test]
fn tables_nested_too_deep_become_byte_arrays() {
    for kind in [b'A', b'F'] {
        let allowed = header(1 << 13, &nested(kind, MAX_DEPTH - 1));
        assert_eq!(through(&allowed, 1000), allowed);
        let deep = header(1 << 13, &nested(kind, MAX_DEPTH));
        let defused = through(&deep, 1000);
        assert_eq!(defused.len(), deep.len());
        let changed: Vec<_> = (0..deep.len()).filter(|&at| deep[at] != defused[at]).map(|at| defused[at]).collect();
        assert_eq!(changed, [b'x']);
    }
}

#[test]
fn frames_larger_than_the_buffer_go_through() {
    let table = long(&[&short(b"big")[..], b"S", &long(&vec![b'v'; 200_000])].concat());
    let bytes = [header(1 << 13, &table), deliver(b"\xff"), frame(3, &vec![0xff; 200_000]), frame(8, b"")].concat();
    let expected = [header(1 << 13, &table), deliver(b"\x1a"), frame(3, &vec![0xff; 200_000]), frame(8, b"")].concat();
    assert!(through(&bytes, 7777) == expected);
}

proptest! {
    #[test]
    fn the_size_of_the_chunks_does_not_matter(chunk in 1_usize..200) {
        let bytes = [deliver(b"k\xff"), header((1 << 13) | (1 << 9), &[nested(b'A', 20), short(b"\xff")].concat()),
            frame(3, b"\x01\0\0\0\0\0\xff"), deliver(b"k")].concat();
        prop_assert_eq!(through(&bytes, chunk), through(&bytes, 10_000));
    }

    #[test]
    fn no_bytes_whatever_make_it_panic(payload in prop::collection::vec(any::<u8>(), 0..300), kind in 1_u8..4, garbage in prop::collection::vec(any::<u8>(), 0..50)) {
        let bytes = [frame(kind, &payload), garbage].concat();
        let out = through(&bytes, 64);
        prop_assert!(out.len() <= bytes.len());
    }

    #[test]
    fn headers_of_any_shape_keep_their_length(payload in prop::collection::vec(any::<u8>(), 14..300)) {
        let bytes = frame(2, &payload);
        prop_assert_eq!(through(&bytes, 64).len(), bytes.len());
    }
}
