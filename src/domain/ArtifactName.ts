/** A display name or a relative path: 1–256 characters, no leading `/`, no `.` or `..` segment, no control characters. */
export const isArtifactName = (name: string): boolean =>
  name.length > 0 &&
  [...name].length <= 256 &&
  name.isWellFormed() &&
  !name.startsWith("/") &&
  !/\p{Cc}/u.test(name) &&
  !name.split("/").some((segment) => segment === "." || segment === "..")
