"""Other people's disks: archives are unpacked, copies checked, broken images moved aside and back."""
