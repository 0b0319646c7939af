//! The AES modes against known answers, their definitions and each other.

use super::ctr::low;
use super::*;
use crate::lc::hex;
use proptest::prelude::*;

const PLAIN: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51";

fn run(
    length: usize,
    body: impl FnOnce(&mut Output<'_>) -> Result<(), Error>,
) -> Result<Vec<u8>, Error> {
    let mut buffer = vec![0; length];
    let mut output = Output::new(&mut buffer);
    body(&mut output)?;
    let written = output.written();
    buffer.truncate(written);
    Ok(buffer)
}

#[test]
fn sp_800_38a_examples_hold() {
    let key = AesKey::new(&hex("2b7e151628aed2a6abf7158809cf4f3c")).unwrap();
    let plain = hex(PLAIN);
    let iv: Block = std::array::from_fn(|i| i as u8);
    let counter: Block = std::array::from_fn(|i| 0xf0 + i as u8);
    let ecb = run(32, |out| {
        key.ecb(Direction::Encrypt, Input::new(&plain), out)
    })
    .unwrap();
    assert_eq!(
        ecb,
        hex("3ad77bb40d7a3660a89ecaf32466ef97f5d3d58503b9699de785895a96fdbaaf")
    );
    let cbc = run(32, |out| {
        key.cbc(Direction::Encrypt, &iv, Input::new(&plain), out)
    })
    .unwrap();
    assert_eq!(
        cbc,
        hex("7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2")
    );
    let ctr = run(32, |out| key.ctr(&counter, 128, Input::new(&plain), out)).unwrap();
    assert_eq!(
        ctr,
        hex("874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff")
    );
}

#[test]
fn wrong_lengths_and_padding_are_refused() {
    assert_eq!(AesKey::new(&[0; 20]).unwrap_err(), Error::Size);
    let key = AesKey::new(&[1; 32]).unwrap();
    let iv = [2; BLOCK];
    let fails = |direction, length| {
        run(64, |out| {
            key.cbc(direction, &iv, Input::new(&vec![0; length]), out)
        })
        .unwrap_err()
    };
    assert_eq!(fails(Direction::Encrypt, 15), Error::DataLength);
    assert_eq!(fails(Direction::Decrypt, 17), Error::DataLength);
    let padded = |data: &[u8]| {
        run(64, |out| {
            key.cbc_padded(Direction::Decrypt, &iv, Input::new(data), out)
        })
    };
    assert_eq!(padded(&[]).unwrap_err(), Error::DataLength);
    for pad in 0..=255u8 {
        for wrong in 0..16usize {
            let mut block = [pad; BLOCK];
            block[wrong] ^= 0x80;
            let sealed = run(16, |out| {
                key.cbc(Direction::Encrypt, &iv, Input::new(&block), out)
            })
            .unwrap();
            let last = usize::from(block[15]);
            let good = (1..=16).contains(&last)
                && block[16 - last..]
                    .iter()
                    .all(|byte| usize::from(*byte) == last);
            assert_eq!(padded(&sealed).is_ok(), good, "{block:?}");
        }
    }
    let tight = run(31, |out| {
        key.cbc_padded(Direction::Encrypt, &iv, Input::new(&[0; 16]), out)
    });
    assert_eq!(tight.unwrap_err(), Error::TooSmall(32));
}

#[test]
fn a_counter_of_few_bits_wraps_in_them_and_never_comes_back() {
    let key = AesKey::new(&[1; 16]).unwrap();
    for bits in [1, 2, 3, 8, 9, 12] {
        let start: u128 = (0xabcd << 112) | (low(bits) - 1).max(1);
        let blocks = 1usize << bits;
        let plain = vec![0; blocks * BLOCK];
        let stream = run(plain.len(), |out| {
            key.ctr(&start.to_be_bytes(), bits, Input::new(&plain), out)
        })
        .unwrap();
        for (i, got) in stream.chunks(BLOCK).enumerate() {
            let value = (start & low(bits)).wrapping_add(i as u128) & low(bits);
            let mut block = ((start & !low(bits)) | value).to_be_bytes();
            key.block(Direction::Encrypt, &mut block);
            assert_eq!(got, block, "{bits} bits, block {i}");
        }
        let longer = vec![0; blocks * BLOCK + 1];
        let refused = run(longer.len(), |out| {
            key.ctr(&start.to_be_bytes(), bits, Input::new(&longer), out)
        });
        assert_eq!(refused.unwrap_err(), Error::DataLength);
    }
    assert_eq!(Ctr::new(&key, &[0; 16], 0).unwrap_err(), Error::Parameter);
    assert_eq!(Ctr::new(&key, &[0; 16], 129).unwrap_err(), Error::Parameter);
}

/// Runs a stream over cuts of the data, out of place and in place.
fn streamed(
    data: &[u8],
    cuts: &[usize],
    in_place: bool,
    mut update: impl FnMut(Input<'_>, &mut Output<'_>),
    finish: impl FnOnce(&mut Output<'_>),
) -> Vec<u8> {
    let mut memory = data.to_vec();
    memory.resize(data.len() + 32, 0);
    let mut apart = vec![0; data.len() + 32];
    let base = memory.as_mut_ptr();
    let source = if in_place {
        base.cast_const()
    } else {
        data.as_ptr()
    };
    let target = if in_place { base } else { apart.as_mut_ptr() };
    let mut output = unsafe { Output::from_raw(target, data.len() + 32) };
    let mut offset = 0;
    for cut in cuts.iter().chain([&data.len()]) {
        let end = (offset + cut).min(data.len());
        update(
            unsafe { Input::from_raw(source.add(offset), end - offset) },
            &mut output,
        );
        offset = end;
    }
    finish(&mut output);
    let written = output.written();
    let mut out = if in_place { memory } else { apart };
    out.truncate(written);
    out
}

proptest! {
    #[test]
    fn streams_agree_with_one_call(
        key in proptest::sample::select(vec![16usize, 24, 32]),
        data in proptest::collection::vec(any::<u8>(), 0..400),
        cuts in proptest::collection::vec(0usize..70, 0..8),
        in_place in any::<bool>(), bits in 20u32..=128,
    ) {
        let key = AesKey::new(&vec![7; key]).unwrap();
        let iv = [9; BLOCK];
        let sealed = run(432, |out| key.cbc_padded(Direction::Encrypt, &iv, Input::new(&data), out)).unwrap();
        let mut stream = Blocks::cbc_padded(&key, Direction::Encrypt, &iv);
        // A stream's output never overtakes its input, so in place works with any cuts.
        let parts = std::cell::RefCell::new(&mut stream);
        let got = streamed(&data, &cuts, in_place,
            |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
        prop_assert_eq!(&got, &sealed);
        let mut stream = Blocks::cbc_padded(&key, Direction::Decrypt, &iv);
        let parts = std::cell::RefCell::new(&mut stream);
        let got = streamed(&sealed, &cuts, in_place,
            |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
        prop_assert_eq!(&got, &data);

        let even = &data[..data.len() / BLOCK * BLOCK];
        for direction in [Direction::Encrypt, Direction::Decrypt] {
            let expected = run(400, |out| key.ecb(direction, Input::new(even), out)).unwrap();
            let mut stream = Blocks::ecb(&key, direction);
            let parts = std::cell::RefCell::new(&mut stream);
            let got = streamed(even, &cuts, in_place,
                |i, o| parts.borrow_mut().update(i, o).unwrap(), |o| parts.borrow_mut().finish(o).unwrap());
            prop_assert_eq!(&got, &expected);
            let each: Vec<u8> = even.chunks(BLOCK).flat_map(|chunk| {
                let mut block: Block = chunk.try_into().unwrap();
                key.block(direction, &mut block);
                block
            }).collect();
            prop_assert_eq!(&each, &expected);
        }

        let counter = [0xff; BLOCK];
        let expected = run(400, |out| key.ctr(&counter, bits, Input::new(&data), out)).unwrap();
        let mut stream = Ctr::new(&key, &counter, bits).unwrap();
        let got = streamed(&data, &cuts, in_place, |i, o| stream.update(i, o).unwrap(), |_| ());
        prop_assert_eq!(&got, &expected);
        let back = run(400, |out| key.ctr(&counter, bits, Input::new(&expected), out)).unwrap();
        prop_assert_eq!(&back, &data);
    }
}
