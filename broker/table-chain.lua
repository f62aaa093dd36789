--[[ SHA-256 (FIPS 180-4), which Redis's Lua lacks, and the chain that it makes of a bucket's audit log (docs/protocol.md, section 6).
  Stands before table.lua in one library. ]]

local ROUND = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
}

--- The text with its padding: its length in bits stands in the last eight octets (section 5.1.1).
local function padded(text)
  local bits = #text * 8
  local function octet(place) return math.floor(bits / 2 ^ (8 * place)) % 256 end
  local length = string.char(0, 0, 0, octet(4), octet(3), octet(2), octet(1), octet(0))
  return text .. '\128' .. string.rep('\0', (55 - #text) % 64) .. length
end

--- Section 6.2.2. Returns 64 lower-case hex digits.
local function sha256(text)
  local band, bnot, bxor, ror, rshift, tobit = bit.band, bit.bnot, bit.bxor, bit.ror, bit.rshift, bit.tobit -- there only in a call
  local h = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 }
  local octets, w = padded(text), {}
  for block = 1, #octets, 64 do
    for t = 0, 15 do
      local a, b, c, d = string.byte(octets, block + 4 * t, block + 4 * t + 3)
      w[t] = tobit(a * 0x1000000 + b * 0x10000 + c * 0x100 + d)
    end
    for t = 16, 63 do
      local x, y = w[t - 15], w[t - 2]
      local s0, s1 = bxor(ror(x, 7), ror(x, 18), rshift(x, 3)), bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
      w[t] = tobit(w[t - 16] + s0 + w[t - 7] + s1)
    end
    local a, b, c, d, e, f, g, i = unpack(h)
    for t = 0, 63 do
      local one = i + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + bxor(band(e, f), band(bnot(e), g)) + ROUND[t + 1] + w[t]
      local two = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
      a, b, c, d, e, f, g, i = tobit(one + two), a, b, c, tobit(d + one), e, f, g
    end
    for place, value in ipairs({ a, b, c, d, e, f, g, i }) do h[place] = tobit(h[place] + value) end
  end
  for place, value in ipairs(h) do h[place] = bit.tohex(value) end
  return table.concat(h)
end

--- As audit.ts writes it: each field with its length before it.
local function chained(former, fields)
  local text = { former }
  for _, value in ipairs(fields) do text[#text + 1] = #value .. ':' .. value end
  return sha256(table.concat(text, ','))
end
