declare module "fs-native-extensions" {
  /** Takes an exclusive advisory lock on the open file; false when another holds it. Dropped when the file is closed. */
  export const tryLock: (fd: number) => boolean
}
