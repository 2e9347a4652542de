import { debianRoot } from "./debianRoot.ts"

/** A folder holding Debian 13 with Ceph (1 GB), to be entered by chroot: CEPH_ROOT, else a cached one. */
export const cephRoot = (): Promise<string> =>
  debianRoot({
    backend: "Ceph RGW",
    name: "ceph-trixie",
    suite: "trixie",
    packages: ["ceph-mon", "ceph-osd", "radosgw", "ceph-common"],
    program: "usr/bin/radosgw",
    given: "CEPH_ROOT",
  })
