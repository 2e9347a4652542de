/** Keys are made by this program alone, so a bad one is a defect: it must never reach a path or a bucket. */
export const checkKey = (key: string): string => {
  if (!/^[A-Za-z0-9_-]+(\/[A-Za-z0-9_-]+)*$/.test(key) || key.length > 200)
    throw new Error(`"${key}" is not a blob key`)
  return key
}
