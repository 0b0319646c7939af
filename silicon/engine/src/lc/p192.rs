//! The group P-192 (FIPS 186-4, D.1.2.1), which AWS-LC does not name: for outside suites only, where
//! the policy `legacy-test` allows it. FIPS 186-5 has no place for it.

use aws_lc_sys::{
    BIGNUM, BN_CTX_free, BN_CTX_new, BN_bin2bn, BN_free, BN_new, BN_one, EC_GROUP,
    EC_GROUP_new_curve_GFp, EC_GROUP_set_generator, EC_POINT_free, EC_POINT_new,
    EC_POINT_set_affine_coordinates_GFp,
};
use std::sync::OnceLock;

/// Bytes of a number.
const BYTES: usize = 24;

/// p, a, b, the generator's x and y, n.
const NUMBERS: [[u8; BYTES]; 6] = [
    number(0xffffffffffffffff, 0xfffffffffffffffe, 0xffffffffffffffff),
    number(0xffffffffffffffff, 0xfffffffffffffffe, 0xfffffffffffffffc),
    number(0x64210519e59c80e7, 0x0fa7e9ab72243049, 0xfeb8deecc146b9b1),
    number(0x188da80eb03090f6, 0x7cbf20eb43a18800, 0xf4ff0afd82ff1012),
    number(0x07192b95ffc8da78, 0x631011ed6b24cdd5, 0x73f977a11e794811),
    number(0xffffffffffffffff, 0xffffffff99def836, 0x146bc9b1b4d22831),
];

const fn number(high: u64, middle: u64, low: u64) -> [u8; BYTES] {
    let words = [high.to_be_bytes(), middle.to_be_bytes(), low.to_be_bytes()];
    let mut out = [0; BYTES];
    let mut index = 0;
    while index < BYTES {
        #[expect(
            clippy::indexing_slicing,
            reason = "both indices are below their lengths"
        )]
        {
            out[index] = words[index / 8][index % 8];
        }
        index += 1;
    }
    out
}

struct Group(*const EC_GROUP);

// SAFETY: a group is not changed after its making, and never freed.
unsafe impl Send for Group {}
// SAFETY: as above; AWS-LC allows concurrent const use.
unsafe impl Sync for Group {}

/// The group, made at the first use; null if AWS-LC refuses to make it.
pub fn group() -> *const EC_GROUP {
    static GROUP: OnceLock<Group> = OnceLock::new();
    GROUP.get_or_init(|| Group(make())).0
}

fn make() -> *const EC_GROUP {
    // SAFETY: everything is new, owned here and freed, but for the group, which lives for ever; AWS-LC
    // copies what it is given and says so by returning null or 0 where something is null.
    unsafe {
        let numbers: [*mut BIGNUM; 6] =
            NUMBERS.map(|bytes| BN_bin2bn(bytes.as_ptr(), BYTES, std::ptr::null_mut()));
        let one = BN_new();
        let context = BN_CTX_new();
        let [p, a, b, x, y, n] = numbers;
        let mut group = std::ptr::null_mut();
        if numbers.iter().all(|number| !number.is_null()) && !one.is_null() && !context.is_null() {
            group = EC_GROUP_new_curve_GFp(p, a, b, context);
        }
        let mut made = false;
        if !group.is_null() {
            let generator = EC_POINT_new(group);
            made = !generator.is_null()
                && EC_POINT_set_affine_coordinates_GFp(group, generator, x, y, context) == 1
                && BN_one(one) == 1
                && EC_GROUP_set_generator(group, generator, n, one) == 1;
            EC_POINT_free(generator);
        }
        for number in numbers {
            BN_free(number);
        }
        BN_free(one);
        BN_CTX_free(context);
        if made { group } else { std::ptr::null() }
    }
}

#[cfg(test)]
mod tests {
    use crate::lc::ec::{Curve, PrivateKey, PublicKey};

    #[test]
    fn keys_sign_and_agree() {
        let (ours, theirs) = (
            PrivateKey::generate(Curve::P192).unwrap(),
            PrivateKey::generate(Curve::P192).unwrap(),
        );
        let public = |key: &PrivateKey| {
            PublicKey::from_point(Curve::P192, &key.public_point().unwrap()).unwrap()
        };
        assert_eq!(
            ours.agree(&public(&theirs)).unwrap().expose(),
            theirs.agree(&public(&ours)).unwrap().expose()
        );
        let mut signature = [0; 48];
        ours.sign(&[7; 20], &mut signature).unwrap();
        public(&ours).verify(&[7; 20], &signature).unwrap();
        public(&theirs).verify(&[7; 20], &signature).unwrap_err();
    }

    /// 2G, from the public list of point multiplication vectors for P-192.
    #[test]
    fn twice_the_generator() {
        let key = PrivateKey::from_scalar(Curve::P192, &[2]).unwrap();
        let point = key.public_point().unwrap();
        let x: String = point[1..25].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(x, "dafebf5828783f2ad35534631588a3f629a70fb16982a888");
    }
}
