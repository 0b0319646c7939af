//! RSA against known answers, against itself, and against keys and ciphertexts that are wrong.

use super::encrypt::Oaep;
use super::sign::Pss;
use super::*;
use crate::lc::digest::{Hash, digest};
use crate::lc::{Input, hex};
use std::sync::OnceLock;

/// The 2048-bit key of draft-irtf-cfrg-rsa-guidance, appendix B, in PKCS #8.
const KEY: &str = "308204bd020100300d06092a864886f70d0101010500048204a7308204a30201000282010100c8cc839714098da56caa23640f93dc8997c16372968fc1b0c6df5113c1c94e8b21e48ad2297e65419011b4e6d8f5e73b1b78b257400321d1ef6b602d4ec8ce8d141c94905eb4ad306639a49206534b6e7f2607423e97dffd133c88d721399defbc7e96ccdcbd7f3aae1fe892712bfb4929817d511666440a1facb7a208f5ea165910add8a3f2d497202360ccb632024f0d07169c1918f316f794b143aef54ec87522a4c02978f9689980bffbf649c307e81819bff88409638d48bd94be152b59ff649fa0bd629d0ffa1813c3abf4b56bd3c2ea5465dffa14589292a9d8a24ad26be7ee0510741b6382d43c83d5bfa40a46613d062be445517dbcaf0cb4e1a7690203010001028201001455010e0f2d587663a666a6ff1ccdbbf0edd8100646d02a023922908992c4ad39e5565929726ef6508c3a71158ef0b6ff751d39d07580bb2d2f063210442d0603ff50dbbd7b35fe2c9bb19a47a1af85a4c24901e02ca8b58b7919b20edf32aacfbf51adb4bc4b61b9b7e968caa4d570f70ef18d8063228893e47d439efca793259bcf2cd108a3d8688cdf078e7ac799969f2339d2c1f522b969684629a933baaec2681625eab84f4e56f4447e9d88fb9a199cf71023e0e257b14441b33c84d3bc67ca8031d2612618103a7a0a40844262f75d8890cd616e51f9035488fd6e099de8ff6d65a4ff118254807c9f58d2fbba8ba151dc8c68be349c977a204e04c102818100f8f5ad6ba828931bea459b8a3f6dc041d23482409c2571e963f31f748602a256371b3883ed459ecf970526459edd16e05522f5a45d94751b2ec2daf272c7f8816a52c00d18080171634da899d7973222f51b937630548696a9f7d8c24a59497c1efcd455cfb97ee86d2b6d34972b332fda303f04999b4eb6b5cc0bb33e7761dd02818100ce7a2e3b49a90b96330a12dc682bdfbdfbae8dd6dc03b6147aefbd575743f0f6da4d86235061b71afd9cad2d34025e56ac86b0f7743eb35e1acbca237895424465b706ed22175e5718c8c70b6703ea8f6b510f945be48e5a36bb3c3c91732b589dfc05d72d80903194452bda21348647ec72943f11a846e62faebe8eb536b0fd02818076fe15f18ae239cdf1df6b445ca4bc6bb968d788c21933a4f5dcd280033d6712062cc08a6df204c1fbd0be46307443e6dd4a6456375429d4e038ca256faf1c9bde91c6b17b76f81995f91c48cbbebc7bf0e3494c08359e4e8cd6a587d7b96d6221fd7e0fb5c5575f082ee57769798071b2bbb4a32238151b47314bb65479031102818100998848b055499a1009cbc7d294b36b1ffdf2020e6e7364053e94de1a000dc9340587f7e27276f68cdf608d753b63377b03b6f4084d2c027c4b38960a6233ba9ed9738b76f10ea75be456078bf701f67cc6b3f3fdc186e64336c76b372e80910ec80b0adcc23d02fb9ae10486a28248075b4ea7e56ddfcf3882e451561471a291028180643bf746429f7d83667a0653021347efbfc05e6351f821a9debb60e0eccde5005ad9e9ec31e558f7e92c29328e74569d7cef7c74cabc2b355ed401a1a0914b4e3cbb06484e58196051169ed14caa2efa6ea044e054d26144cc1629c55010558a04e133f44b7c244dac25bf913c57b890ee49f548259cd63404fef6859dcf975a";

/// Name, ciphertext and message: from the same appendix, each confirmed with OpenSSL.
const REJECTION: [(&str, &str, &str); 10] = [
    (
        "a message of eleven bytes",
        "6213634593332c485cef783ea2846e3d6e8b0e005cd8293eaebbaa5079712fd681579bdfbbda138ae4d9d952917a03c92398ec0cb2bb0c6b5a8d55061fed0d0d8d72473563152648cfe640b335dc95331c21cb133a91790fa93ae44497c128708970d2beeb77e8721b061b1c44034143734a77be8220877415a6dba073c3871605380542a9f25252a4babe8331cdd53cf828423f3cc70b560624d0581fb126b2ed4f4ed358f0eb8065cf176399ac1a846a31055f9ae8c9c24a1ba050bc20842125bc1753158f8065f3adb9cc16bfdf83816bdf38b624f12022c5a6fbfe29bc91542be8c0208a770bcd677dc597f5557dc2ce28a11bf3e3857f158717a33f6592",
        "6c6f72656d20697073756d",
    ),
    (
        "a message, where the made one is empty",
        "b5e49308f6e9590014ffaffc5b8560755739dd501f1d4e9227a7d291408cf4b753f292322ff8bead613bf2caa181b221bc38caf6392deafb28eb21ad60930841ed02fd6225cc9c463409adbe7d8f32440212fbe3881c51375bb09565efb22e62b071472fb38676e5b4e23a0617db5d14d93519ac0007a30a9c822eb31c38b57fcb1be29608fcf1ca2abdcaf5d5752bbc2b5ac7dba5afcff4a5641da360dd01f7112539b1ed46cdb550a3b1006559b9fe1891030ec80f0727c42401ddd6cbb5e3c80f312df6ec89394c5a7118f573105e7ab00fe57833c126141b50a935224842addfb479f75160659ba28877b512bb9a93084ad8bec540f92640f63a11a010e0",
        "6c6f72656d20697073756d",
    ),
    (
        "wrong padding, made length 0",
        "20aaa8adbbc593a924ba1c5c7990b5c2242ae4b99d0fe636a19a4cf754edbcee774e472fe028160ed42634f8864900cb514006da642cae6ae8c7d087caebcfa6dad1551301e130344989a1d462d4164505f6393933450c67bc6d39d8f5160907cabc251b737925a1cf21e5c6aa5781b7769f6a2a583d97cce008c0f8b6add5f0b2bd80bee60237aa39bb20719fe75749f4bc4e42466ef5a861ae3a92395c7d858d430bfe38040f445ea93fa2958b503539800ffa5ce5f8cf51fa8171a91f36cb4f4575e8de6b4d3f096ee140b938fd2f50ee13f0d050222e2a72b0a3069ff3a6738e82c87090caa5aed4fcbe882c49646aa250b98f12f83c8d528113614a29e7",
        "",
    ),
    (
        "wrong padding, made length 245, the longest",
        "48cceab10f39a4db32f60074feea473cbcdb7accf92e150417f76b44756b190e843e79ec12aa85083a21f5437e7bad0a60482e601198f9d86923239c8786ee728285afd0937f7dde12717f28389843d7375912b07b991f4fdb0190fced8ba665314367e8c5f9d2981d0f5128feeb46cb50fc237e64438a86df198dd0209364ae3a842d77532b66b7ef263b83b1541ed671b120dfd660462e2107a4ee7b964e734a7bd68d90dda61770658a3c242948532da32648687e0318286473f675b412d6468f013f14d760a358dfcad3cda2afeec5e268a37d250c37f722f468a70dfd92d7294c3c1ee1e7f8843b7d16f9f37ef35748c3ae93aa155cdcdfeb4e78567303",
        "22d850137b9eebe092b24f602dc5bb7918c16bd89ddbf20467b119d205f9c2e4bd7d2592cf1e532106e0f33557565923c73a02d4f09c0c22bea89148183e60317f7028b3aa1f261f91c979393101d7e15f4067e63979b32751658ef769610fe97cf9cef3278b3117d384051c3b1d82c251c2305418c8f6840530e631aad63e70e20e025bcd8efb54c92ec6d3b106a2f8e64eeff7d38495b0fc50c97138af4b1c0a67a1c4e27b077b8439332edfa8608dfeae653cd6a628ac550395f7e74390e42c11682234870925eeaa1fa71b76cf1f2ee3bda69f6717033ff8b7c95c9799e7a3bea5e7e4a1c359772fb6b1c6e6c516661dfe30c3",
    ),
    (
        "the last candidate is too long, the one before is 2",
        "1439e08c3f84c1a7fec74ce07614b20e01f6fa4e8c2a6cffdc3520d8889e5d9a950c6425798f85d4be38d300ea5695f13ecd4cb389d1ff5b82484b494d6280ab7fa78e645933981cb934cce8bfcd114cc0e6811eefa47aae20af638a1cd163d2d3366186d0a07df0c81f6c9f3171cf3561472e98a6006bf75ddb457bed036dcce199369de7d94ef2c68e8467ee0604eea2b3009479162a7891ba5c40cab17f49e1c438cb6eaea4f76ce23cce0e483ff0e96fa790ea15be67671814342d0a23f4a20262b6182e72f3a67cd289711503c85516a9ed225422f98b116f1ab080a80abd6f0216df88d8cfd67c139243be8dd78502a7aaf6bc99d7da71bcdf627e7354",
        "0f9b",
    ),
    (
        "first byte 1",
        "9b2ec9c0c917c98f1ad3d0119aec6be51ae3106e9af1914d48600ab6a2c0c0c8ae02a2dc3039906ff3aac904af32ec798fd65f3ad1afa2e69400e7c1de81f5728f3b3291f38263bc7a90a0563e43ce7a0d4ee9c0d8a716621ca5d3d081188769ce1b131af7d35b13dea99153579c86db31fe07d5a2c14d621b77854e48a8df41b5798563af489a291e417b6a334c63222627376118c02c53b6e86310f728734ffc86ef9d7c8bf56c0c841b24b82b59f51aee4526ba1c4268506d301e4ebc498c6aebb6fd5258c876bf900bac8ca4d309dd522f6a6343599a8bc3760f422c10c72d0ad527ce4af1874124ace3d99bb74db8d69d2528db22c3a37644640f95c05f",
        "a1f8c9255c35cfba403ccc",
    ),
    (
        "second byte 1",
        "782c2b59a21a511243820acedd567c136f6d3090c115232a82a5efb0b178285f55b5ec2d2bac96bf00d6592ea7cdc3341610c8fb07e527e5e2d20cfaf2c7f23e375431f45e998929a02f25fd95354c33838090bca838502259e92d86d568bc2cdb132fab2a399593ca60a015dc2bb1afcd64fef8a3834e17e5358d822980dc446e845b3ab4702b1ee41fe5db716d92348d5091c15d35a110555a35deb4650a5a1d2c98025d42d4544f8b32aa6a5e02dc02deaed9a7313b73b49b0d4772a3768b0ea0db5846ace6569cae677bf67fb0acf3c255dc01ec8400c963b6e49b1067728b4e563d7e1e1515664347b92ee64db7efb5452357a02fff7fcb7437abc2e579",
        "e6d700309ca0ed62452254",
    ),
    (
        "padding of no byte",
        "179598823812d2c58a7eb50521150a48bcca8b4eb53414018b6bca19f4801456c5e36a940037ac516b0d6412ba44ec6b4f268a55ef1c5ffbf18a2f4e3522bb7b6ed89774b79bffa22f7d3102165565642de0d43a955e96a1f2e80e5430671d7266eb4f905dc8ff5e106dc5588e5b0289e49a4913940e392a97062616d2bda38155471b7d360cfb94681c702f60ed2d4de614ea72bf1c53160e63179f6c5b897b59492bee219108309f0b7b8cb2b136c346a5e98b8b4b8415fb1d713bae067911e3057f1c335b4b7e39101eafd5d28f0189037e4334f4fdb9038427b1d119a6702aa8233319cc97d496cc289ae8c956ddc84042659a2d43d6aa22f12b81ab884e",
        "1f037dd717b07d3e7f7359",
    ),
    (
        "padding of seven bytes",
        "a7a340675a82c30e22219a55bc07cdf36d47d01834c1834f917f18b517419ce9de2a96460e745024436470ed85e94297b283537d52189c406a3f533cb405cc6a9dba46b482ce98b6e3dd52d8fce2237425617e38c11fbc46b61897ef200d01e4f25f5f6c4c5b38cd0de38ba11908b86595a8036a08a42a3d05b79600a97ac18ba368a08d6cf6ccb624f6e8002afc75599fba4de3d4f3ba7d208391ebe8d21f8282b18e2c10869eb2702e68f9176b42b0ddc9d763f0c86ba0ff92c957aaeab76d9ab8da52ea297ec11d92d770146faa1b300e0f91ef969b53e7d2907ffc984e9a9c9d11fb7d6cba91972059b46506b035efec6575c46d7114a6b935864858445f",
        "63cb0bf65fc8255dd29e17",
    ),
    (
        "no separator",
        "3d1b97e7aa34eaf1f4fc171ceb11dcfffd9a46a5b6961205b10b302818c1fcc9f4ec78bf18ea0cee7e9fa5b16fb4c611463b368b3312ac11cf9c06b7cf72b54e284848a508d3f02328c62c2999d0fb60929f81783c7a256891bc2ff4d91df2af96a24fc5701a1823af939ce6dbdc510608e3d41eec172ad2d51b9fc61b4217c923cadcf5bac321355ef8be5e5f090cdc2bd0c697d9058247db3ad613fdce87d2955a6d1c948a5160f93da21f731d74137f5d1f53a1923adb513d2e6e1589d44cc079f4c6ddd471d38ac82d20d8b1d21f8d65f3b6907086809f4123e08d86fb38729585de026a485d8f0e703fd4772f6668febf67df947b82195fa3867e3a3065",
        "6f09a0b62699337c497b0b",
    ),
];

fn key() -> &'static PrivateKey {
    static KEY_PARSED: OnceLock<PrivateKey> = OnceLock::new();
    KEY_PARSED.get_or_init(|| match pkcs8::parse_private_key(&hex(KEY)).unwrap() {
        pkcs8::PrivateKey::Rsa(key) => key,
        _ => panic!("not an RSA key"),
    })
}

#[test]
fn implicit_rejection_gives_the_messages_of_the_draft() {
    for (name, ciphertext, message) in REJECTION {
        let got = key().decrypt_pkcs1(&hex(ciphertext)).unwrap();
        assert_eq!(got.expose(), hex(message), "{name}");
    }
}

#[test]
fn implicit_rejection_never_fails_on_what_is_encrypted() {
    let public = key().public().unwrap();
    let mut block = vec![0xaa; 256];
    block[0] = 0;
    block[1] = 2;
    for separator in 2..256 {
        let mut block = block.clone();
        block[separator] = 0;
        let ciphertext = public.encrypt_raw(&block).unwrap();
        let got = key().decrypt_pkcs1(&ciphertext).unwrap();
        if separator >= 10 {
            assert_eq!(got.expose(), &block[separator + 1..]);
        } else {
            assert_eq!(
                got.expose(),
                key().decrypt_pkcs1(&ciphertext).unwrap().expose()
            );
            assert!(got.len() <= 245 && got.expose() != &block[separator + 1..]);
        }
    }
    for length in [0, 1, 100, 245] {
        let message = vec![7; length];
        let ciphertext = public.encrypt_pkcs1(&message).unwrap();
        assert_eq!(key().decrypt_pkcs1(&ciphertext).unwrap().expose(), message);
    }
    assert_eq!(
        public.encrypt_pkcs1(&[0; 246]).unwrap_err(),
        Error::DataLength
    );
    assert_eq!(
        key().decrypt_pkcs1(&[1; 255]).unwrap_err(),
        Error::DataLength
    );
    assert_eq!(
        key().decrypt_pkcs1(&[0xff; 256]).unwrap_err(),
        Error::Decrypt
    );
}

#[test]
fn keys_come_back_from_every_form() {
    let key = key();
    let forms = [
        PrivateKey::from_pkcs1(key.to_pkcs1().unwrap().expose()).unwrap(),
        PrivateKey::from_components(&key.components().unwrap()).unwrap(),
    ];
    for again in &forms {
        assert_eq!(again.to_pkcs8().unwrap().expose(), hex(KEY));
    }
    let Components { n, e, d, primes } = key.components().unwrap();
    for given in [None, Some((primes.p.expose(), primes.q.expose()))] {
        let again = PrivateKey::from_exponents(&n, &e, d.expose(), given).unwrap();
        let found = again.components().unwrap().primes;
        let same = found.p.equals(primes.p.expose()) || found.p.equals(primes.q.expose());
        assert!(same);
        let mut signature = [0; 256];
        again.sign_raw(&[5], &mut signature).unwrap();
        key.public().unwrap().verify_raw(&[5], &signature).unwrap();
    }
    let public = key.public().unwrap();
    let again = PublicKey::from_pkcs1(&public.to_pkcs1().unwrap()).unwrap();
    assert_eq!(again.modulus().unwrap(), n);
    match pkcs8::parse_public_key(&public.to_spki().unwrap()).unwrap() {
        pkcs8::PublicKey::Rsa(again) => assert_eq!(again.exponent().unwrap(), E_65537),
        _ => panic!("not an RSA key"),
    }
}

#[test]
fn wrong_keys_are_refused() {
    let mut components = key().components().unwrap();
    components.d.expose_mut()[100] ^= 1;
    assert_eq!(
        PrivateKey::from_components(&components).unwrap_err(),
        Error::Key
    );
    let (n, e) = (components.n.clone(), components.e.clone());
    let wrong = PrivateKey::from_exponents(&n, &e, components.d.expose(), None);
    assert_eq!(wrong.unwrap_err(), Error::Key);
    for d in [&[][..], &[0], &[1], &[2]] {
        assert!(PrivateKey::from_exponents(&n, &e, d, None).is_err());
        assert!(PrivateKey::from_exponents(&n, &e, d, Some((&[1], &[1]))).is_err());
        assert!(PrivateKey::from_exponents(&n, &e, d, Some((&[0], &[]))).is_err());
    }
    assert_eq!(
        PublicKey::from_components(&[0xff; 63], &e).unwrap_err(),
        Error::Size
    );
    assert!(PublicKey::from_components(&n, &[2]).is_err());
    assert!(PublicKey::from_components(&n, &[]).is_err());
    assert!(PublicKey::from_components(&n, &[1, 0, 0, 0, 0, 0, 0, 1]).is_err());
    assert_eq!(
        PrivateKey::generate(1024, &E_65537, false).unwrap_err(),
        Error::Size
    );
    assert_eq!(
        PrivateKey::generate(2047, &E_65537, true).unwrap_err(),
        Error::Size
    );
    for e in [
        &[][..],
        &[3],
        &[1, 0, 0],
        &[1, 0, 0, 0, 0, 0, 1],
        &[2, 0, 0, 0, 1],
    ] {
        assert_eq!(
            PrivateKey::generate(2048, e, false).unwrap_err(),
            Error::Parameter
        );
    }
}

#[test]
fn generated_keys_work() {
    for (bits, e, legacy) in [
        (1024, &E_65537[..], true),
        (1024, &[3][..], true),
        (2048, &E_65537[..], false),
        (2048, &[0, 1, 0, 3][..], false),
    ] {
        let key = PrivateKey::generate(bits, e, legacy).unwrap();
        assert_eq!(key.bits(), bits);
        let mut signature = vec![0; key.bytes()];
        let value = digest(Hash::Sha256, Input::new(b"message")).unwrap();
        key.sign_pkcs1(Hash::Sha256, &value, &mut signature)
            .unwrap();
        let public = key.public().unwrap();
        public
            .verify_pkcs1(Hash::Sha256, &value, &signature)
            .unwrap();
    }
}

#[test]
fn signatures_of_every_hash_verify_and_damaged_ones_do_not() {
    let (key, public) = (key(), key().public().unwrap());
    for hash in Hash::ALL {
        let value = digest(hash, Input::new(b"message")).unwrap();
        let mut signature = [0; 256];
        assert_eq!(key.sign_pkcs1(hash, &value, &mut signature), Ok(256));
        public.verify_pkcs1(hash, &value, &signature).unwrap();
        // The same by hand: DigestInfo in the caller's bytes.
        let algorithm = der::element(der::SEQUENCE, &[hash.oid(), &[der::NULL, 0]]);
        let octets = der::element(der::OCTET_STRING, &[&value]);
        let info = der::element(der::SEQUENCE, &[algorithm.expose(), octets.expose()]);
        let mut by_hand = [0; 256];
        key.sign_padded(info.expose(), &mut by_hand).unwrap();
        assert_eq!(by_hand, signature, "{hash:?}");
        public.verify_padded(info.expose(), &signature).unwrap();
        assert_eq!(public.recover_padded(&signature).unwrap(), info.expose());
        signature[7] ^= 1;
        let damaged = public.verify_pkcs1(hash, &value, &signature);
        assert_eq!(damaged, Err(Error::Signature));
        for (mask, salt) in [(hash, hash.bytes()), (Hash::Sha256, 0), (Hash::Sha512, 20)] {
            let pss = Pss { hash, mask, salt };
            let mut signature = [0; 256];
            key.sign_pss(&pss, &value, &mut signature).unwrap();
            public.verify_pss(&pss, &value, &signature).unwrap();
            let other = Pss {
                salt: salt + 1,
                ..pss
            };
            assert_eq!(
                public.verify_pss(&other, &value, &signature),
                Err(Error::Signature)
            );
        }
    }
    let mut out = [0; 256];
    let pss = Pss {
        hash: Hash::Sha256,
        mask: Hash::Sha256,
        salt: 223,
    };
    assert_eq!(
        key.sign_pss(&pss, &[0; 32], &mut out),
        Err(Error::Parameter)
    );
    assert_eq!(key.sign_padded(&[0; 246], &mut out), Err(Error::DataLength));
    assert_eq!(
        key.sign_pkcs1(Hash::Sha256, &[0; 31], &mut out),
        Err(Error::DataLength)
    );
    assert_eq!(
        key.sign_padded(b"x", &mut out[..255]),
        Err(Error::TooSmall(256))
    );
}

#[test]
fn the_raw_operation_is_its_own_inverse() {
    let (key, public) = (key(), key().public().unwrap());
    let ciphertext = public.encrypt_raw(b"number").unwrap();
    let plain = key.decrypt_raw(&ciphertext).unwrap();
    assert!(plain.expose().ends_with(b"number") && plain.expose()[..250].iter().all(|b| *b == 0));
    let mut signature = [0; 256];
    key.sign_raw(b"number", &mut signature).unwrap();
    public.verify_raw(b"number", &signature).unwrap();
    assert_eq!(
        public.verify_raw(b"another", &signature),
        Err(Error::Signature)
    );
    assert_eq!(
        key.sign_raw(&[0xff; 256], &mut signature),
        Err(Error::DataLength)
    );
    assert_eq!(
        public.encrypt_raw(&[1; 257]).unwrap_err(),
        Error::DataLength
    );
}

#[test]
fn oaep_of_every_hash_comes_back_and_only_with_its_parameters() {
    let (key, public) = (key(), key().public().unwrap());
    for hash in Hash::ALL {
        for label in [&b""[..], b"label"] {
            let oaep = Oaep {
                hash,
                mask: Hash::Sha1,
                label,
            };
            let longest = vec![9; oaep.longest(256).unwrap()];
            let ciphertext = public.encrypt_oaep(&oaep, &longest).unwrap();
            assert_eq!(
                key.decrypt_oaep(&oaep, &ciphertext).unwrap().expose(),
                longest
            );
            for other in [
                Oaep {
                    label: b"other",
                    ..oaep
                },
                Oaep {
                    mask: Hash::Sha224,
                    ..oaep
                },
            ] {
                assert_eq!(
                    key.decrypt_oaep(&other, &ciphertext).unwrap_err(),
                    Error::Decrypt
                );
            }
            let longer = [&longest[..], &[9]].concat();
            assert_eq!(
                public.encrypt_oaep(&oaep, &longer).unwrap_err(),
                Error::DataLength
            );
        }
    }
}
