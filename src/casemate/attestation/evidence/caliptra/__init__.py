"""Caliptra 2.x evidence: an EAT, or quote, log and certificates by themselves, up to an anchor.

What comes out, and the environments that reference values are written against (`environments`
makes them; none has a measurement key, vendor or model, unless a plain OCP EAT brings its own):

| component | measured | class-id, as tag 560 bytes | values |
|---|---|---|---|
| device | device status | `CALIPTRA_2_X_DEVICE_STATUS` | raw-value: the 17 or 18 status bytes |
| device | vendor keys | `CALIPTRA_2_X_VENDOR_PK_HASH` | SHA-384 as fused |
| device | owner keys | `CALIPTRA_2_X_OWNER_PK_HASH` | SHA-384 of the bundle's owner keys |
| fmc | FMC | `CALIPTRA_2_X_FMC_FIRMWARE_INFO` | SHA-384, svn, PCR 0 and 1 |
| runtime | runtime firmware | `CALIPTRA_2_X_RT_FIRMWARE_INFO` | SHA-384, svn, PCR 2 and 3 |
| runtime | configuration | `0x43434956` (CCIV) | SHA-384 of what the bundle's header configures |
| module | one for each image | its firmware id, as `0x434D0001` | SHA-384, svn, register 0 |
| key | one for each part that its report names | as in `module` | SHA-384 |

The class-ids of the firmware layers are the types in their certificates' TcbInfo; a firmware id is
written as Caliptra's MCU firmware writes it in its own evidence: 0x and eight upper-case digits.
PCRs are integrity registers, by index; register 0 of an image is its journey (cumulative value). A
vendor's or owner's key hash is what PCR 0 holds; the two FUSE info hashes of the FMC certificate
follow from these three and are recomputed. An SVN is the bundle's, one byte; that of an image the
one of its stash.

`casemate.formats.device_status.state_mask` is for references to lifecycle and debug state alone;
`casemate.formats.module_parts` names the firmware ids of the module itself.
"""
