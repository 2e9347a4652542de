import { Redacted } from "effect"
import type { SettingsShape } from "../Config.ts"

/** What looks like a secret, wherever it stands: keys, lease tokens, bearers, signatures, passwords in URLs. */
const patterns: ReadonlyArray<readonly [RegExp, string]> = [
  [/\b(mbx|lease)_[A-Za-z0-9]{24,}/g, "$1_[redacted]"],
  [/\b(Bearer|Basic) +[^\s"',\\]+/gi, "$1 [redacted]"],
  [/\b((?:X-Amz-)?(?:Signature|Credential|Security-Token)=)[^&\s"'\\]+/gi, "$1[redacted]"],
  [/(\/\/[^\s:/@"]*:)[^\s/@"]+@/g, "$1[redacted]@"],
]

/** The secrets of the configuration themselves. */
const known = (settings: SettingsShape): ReadonlyArray<string> => {
  const passwords = settings.production
    ? [settings.production.databaseUrl, settings.production.redisUrl].flatMap((url) => {
        const { password } = new URL(Redacted.value(url))
        return [password, decodeURIComponent(password)]
      })
    : []
  const others = [...settings.bootstrapApiKeys, settings.leaseIntrospection?.token, ...settings.urlSigningSecrets]
  return [...passwords, ...others.flatMap((secret) => (secret === undefined ? [] : [Redacted.value(secret)]))].filter(
    (secret) => secret.length >= 8,
  )
}

/**
 * The last line of defence in front of logs and traces: nothing should bring a secret so far, and if a driver's message
 * does, it ends here.
 */
export const scrubber = (settings: SettingsShape): ((text: string) => string) => {
  const secrets = known(settings)
  return (text) => {
    let scrubbed = text
    for (const secret of secrets) scrubbed = scrubbed.replaceAll(secret, "[redacted]")
    for (const [pattern, replacement] of patterns) scrubbed = scrubbed.replace(pattern, replacement)
    return scrubbed
  }
}
