-- Getting Debian's kernels, with a fake apt in PATH: no network.

local fixture = require "tests.lua.sandbox"
local stat = require "posix.sys.stat"
local core = require "ktstr.core"
local errors = require "ktstr.errors"
local apt = require "ktstr.kernels.apt"
local cache = require "ktstr.kernels.cache"
local debian = require "ktstr.kernels.debian"
local files = require "ktstr.files"
local mirrors = require "ktstr.kernels.mirrors"
local process = require "ktstr.process"
local progress = require "ktstr.kernels.progress"

local raised, sandbox = fixture.raised, fixture.sandbox

describe("Debian's mirrors", function()
  local box
  before_each(function()
    box = sandbox()
    files.make_directory(box.directory .. "/apt/sources.list.d")
  end)
  after_each(function()
    box.undo()
  end)

  local function write(name, text)
    files.write(box.directory .. "/apt/" .. name, text)
  end
  local own = { archive = "http://deb.debian.org/debian", security = "http://deb.debian.org/debian-security" }

  it("are read from one-line sources", function()
    write("sources.list", [[
# deb http://commented.example/debian bookworm main
deb-src http://source.example/debian bookworm main
deb [arch=amd64 signed-by=/x.gpg] https://mirror.example/debian/ bookworm main contrib # ours
deb http://mirror.example/debian-security bookworm-security main
]])
    local ours = {
      archive = "https://mirror.example/debian",
      security = "http://mirror.example/debian-security",
    }
    assert.same({ ours, own }, mirrors.find(box.directory .. "/apt"))
  end)

  it("are read from deb822 sources, with continued lines and disabled stanzas", function()
    write("sources.list.d/debian.sources", [[
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Enabled: no

# the real one
Types: deb deb-src
URIs:
 http://on.example/debian
 http://second.example/debian
Suites: bookworm
 bookworm-updates
Components: main
]])
    assert.equal("http://on.example/debian", mirrors.find(box.directory .. "/apt")[1].archive)
    assert.equal(own.security, mirrors.find(box.directory .. "/apt")[1].security)
  end)

  it("leave out other vendors' repositories, discs and files", function()
    write("sources.list", [[
deb https://download.example/linux/ubuntu noble stable
deb cdrom:[Debian]/ bookworm main
deb https://vendor.example/node_20.x nodistro main
deb https://vendor.example/tools bookworm main
]])
    write("sources.list.d/x.list.disabled", "deb http://disabled.example/debian bookworm main\n")
    assert.same({ own }, mirrors.find(box.directory .. "/apt"))
  end)

  it("fall back to Debian's own where the system names none", function()
    assert.same({ own }, mirrors.find(box.directory .. "/nowhere"))
  end)
end)

local SHOW = [[
Package: linux-image-6.1.0-55-cloud-amd64
Version: 6.1.192-1
Depends: kmod, linux-base (>= 4.3~)

Package: linux-image-6.1.0-56-cloud-amd64-unsigned
Version: 6.1.192-2

Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Description: Linux 6.1 for x86-64 cloud (signed)
 A continuation: not a field.
 .

Package: linux-image-6.1.0-56-rt-amd64
Version: 6.1.192-2

Package: linux-image-6.1.0-56-amd64
Version: 6.1.192-2

Package: linux-image-6.1.0-56-cloud-amd64-dbg
Version: 6.1.192-2

Package: linux-image-6.12-cloud-amd64
Version: 6.12.117-1~deb12u1
Depends: linux-image-6.12.117+deb12-cloud-amd64 (= 6.12.117-1~deb12u1)

Package: linux-image-cloud-amd64
Version: 7.3.4-1~bpo13+1

Package: linux-image-6.12.117+deb12-cloud-amd64
Version: 6.12.117-1~deb12u1

Package: linux-image-6.12.117+deb13-cloud-amd64
Version: 6.12.117-1

Package: linux-image-7.2.13+deb14-cloud-amd64-unsigned
Version: 7.2.13-1
]]

describe("Debian's packages", function()
  local function releases(flavour)
    local names = {}
    for i, image in ipairs(debian.images(apt.parse_records(SHOW), flavour, "amd64")) do
      names[i] = image.release
    end
    return names
  end

  it("are images of the flavour asked for, without metapackages, the highest first", function()
    assert.same({ "7.2.13+deb14-cloud-amd64", "6.12.117+deb13-cloud-amd64", "6.12.117+deb12-cloud-amd64",
      "6.1.0-56-cloud-amd64", "6.1.0-55-cloud-amd64" }, releases "cloud")
    assert.same({ "6.1.0-56-amd64" }, releases "generic")
    assert.same({ "6.1.0-56-rt-amd64" }, releases "rt")
  end)

  local function select(wanted)
    local image = debian.select(debian.images(apt.parse_records(SHOW), "cloud", "amd64"), wanted)
    return image and image.record.Package
  end

  it("are chosen by version or release, signed where there is a choice", function()
    assert.equal("linux-image-6.1.0-56-cloud-amd64", select "6.1")
    assert.equal("linux-image-6.1.0-56-cloud-amd64", select "6.1.192")
    assert.equal("linux-image-6.1.0-55-cloud-amd64", select "6.1.192-1")
    assert.equal("linux-image-6.1.0-55-cloud-amd64", select "6.1.0-55")
    assert.equal("linux-image-6.12.117+deb13-cloud-amd64", select "6.12")
    assert.equal("linux-image-6.12.117+deb12-cloud-amd64", select "6.12.117+deb12-cloud-amd64")
    assert.equal("linux-image-7.2.13+deb14-cloud-amd64-unsigned", select "7.2")
    assert.is_nil(select "7.3")
    assert.is_nil(select "6.11")
  end)

  it("are for x86-64 only", function()
    assert.equal("amd64", debian.architecture "x86_64")
    local err = raised(debian.architecture, "aarch64")
    assert.equal("unsupported", err.code)
    assert.matches("aarch64", err.message)
  end)
end)

-- Programs that answer as apt does, and keep a record of what they were asked.
local FAKES = {
  ["apt-config"] = [[
cat <<END
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::AllowInsecureRepositories "true";
APT::Update::Post-Invoke:: "touch $FAKE/hook-ran";
END
]],
  ["apt-get"] = [[
echo "apt-get $*" >> $FAKE/calls
cat "$APT_CONFIG" > $FAKE/config
case $1 in
update)
  if [ -e $FAKE/no-network ]; then
    echo "W: a warning" >&2
    echo "E: Failed to fetch http://deb.example/InRelease  Could not resolve 'deb.example'" >&2
    exit 100
  fi
  echo "dlstatus:1:50.0:Retrieving file 1 of 1" ;;
download)
  : > half-a-download
  [ ! -e $FAKE/full ] || { echo "E: Write error - write (28: No space left on device)" >&2; exit 100; }
  [ ! -e $FAKE/hang ] || { echo $$ > $FAKE/downloading; exec sleep 600; }
  rm half-a-download
  for p in "$@"; do
    case $p in *=*) echo "$p" > "${p%=*}_${p#*=}_amd64.deb" ;; esac
  done ;;
esac
]],
  ["apt-cache"] = [[
echo "apt-cache $*" >> $FAKE/calls
case $1 in
pkgnames) sed -n 's/^Package: //p' $FAKE/packages ;;
show)
  shift
  for p in "$@"; do
    awk -v want="$p" 'BEGIN { RS = ""; ORS = "\n\n" } index($0, "Package: " want "\n") == 1' $FAKE/packages
  done ;;
esac
]],
  ["dpkg-deb"] = [[
name=$(basename "$2"); release=${name#linux-*-}; release=${release%%_*}
case $name in
linux-binary-*) mkdir -p $3/usr/lib/modules/$release; echo image > $3/usr/lib/modules/$release/vmlinuz ;;
linux-base-*) mkdir -p $3/usr/lib/modules/$release; echo CONFIG=y > $3/usr/lib/modules/$release/config ;;
linux-modules-*)
  mkdir -p $3/usr/lib/modules/$release/kernel; echo kernel/a.ko > $3/usr/lib/modules/$release/modules.order
  ln -s /nowhere $3/usr/lib/modules/$release/build ;;
linux-image-6.1*)
  mkdir -p $3/boot $3/lib/modules/$release; echo image > $3/boot/vmlinuz-$release
  echo CONFIG=y > $3/boot/config-$release; echo kernel/a.ko > $3/lib/modules/$release/modules.order ;;
*) mkdir -p $3 ;;
esac
]],
}

local PACKAGES = [[
Package: linux-image-6.1.0-56-cloud-amd64
Version: 6.1.192-2
Architecture: amd64
Depends: kmod, linux-base (>= 4.3~)
Size: 1000

Package: linux-image-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Depends: linux-binary-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1), linux-modules-7.3.4+deb13-cloud-amd64
Size: 1000
SHA256: 1111

Package: linux-binary-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Depends: linux-base-7.3.4+deb13-cloud-amd64 (= 7.3.4-1~bpo13+1)
Size: 1000
SHA256: 2222

Package: linux-modules-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Size: 1000
SHA256: 3333

Package: linux-base-7.3.4+deb13-cloud-amd64
Version: 7.3.4-1~bpo13+1
Architecture: amd64
Size: 1000
SHA256: 4444
]]

describe("getting a kernel", function()
  local box, extract, quiet
  before_each(function()
    box = sandbox()
    extract = core.kernel_extract
    box.setenv("FAKE", box.directory)
    box.setenv("PATH", box.directory .. "/bin:" .. os.getenv "PATH")
    files.make_directory(box.directory .. "/bin")
    for name, text in pairs(FAKES) do
      files.write(box.directory .. "/bin/" .. name, "#!/bin/sh\n" .. text)
      stat.chmod(box.directory .. "/bin/" .. name, tonumber("755", 8))
    end
    files.write(box.directory .. "/packages", PACKAGES)
    core.kernel_extract = function(from, to)
      files.write(to, "vmlinux out of " .. files.read(from))
    end
    quiet = progress.new({ write = function() end, flush = function() end }, false)
  end)
  after_each(function()
    core.kernel_extract = extract
    box.undo()
  end)

  local function calls(what)
    return select(2, (files.read(box.directory .. "/calls") or ""):gsub("apt%-get " .. what, ""))
  end

  local function leftovers()
    local names = {}
    for _, name in ipairs(files.list(cache.directory())) do
      if name ~= ".lock" then
        names[#names + 1] = name
      end
    end
    return names
  end

  it("takes every package of its release and keeps what a machine needs", function()
    local kernel, fetched = debian.get("7.3", "cloud", quiet)
    assert.is_true(fetched)
    assert.equal("7.3.4+deb13-cloud-amd64", kernel.release)
    assert.equal("vmlinux out of image\n", files.read(kernel.path))
    assert.equal("image\n", files.read(kernel.bzimage))
    assert.equal("CONFIG=y\n", files.read(kernel.config))
    assert.same({ "kernel", "modules.order" }, files.list(kernel.modules))
    assert.equal("7.3.4+deb13-cloud-amd64\n", files.read(kernel.directory .. "/release"))
    assert.equal("debian:7.3", kernel.meta.source)
    assert.equal(4, #kernel.meta.packages)
    assert.equal("1111", kernel.meta.packages[1].sha256)
    assert.matches("^%x+$", kernel.meta.sha256.bzImage)
    assert.same({ kernel.release }, leftovers())
  end)

  it("understands packages that hold everything, below /boot and /lib", function()
    local kernel = debian.get("6.1", "cloud", quiet)
    assert.equal("image\n", files.read(kernel.bzimage))
    assert.equal("CONFIG=y\n", files.read(kernel.config))
    assert.equal("6.1.192", kernel.version)
    assert.same({ "modules.order" }, files.list(kernel.modules))
  end)

  it("asks the network for nothing that it has", function()
    debian.get("7.3", "cloud", quiet)
    assert.equal(1, calls "update")
    assert.equal(1, calls "download")
    local _, fetched = debian.get("7.3", "cloud", quiet)
    assert.is_false(fetched)
    debian.get("6.1", "cloud", quiet)
    assert.equal(1, calls "update")
    assert.equal(2, calls "download")
  end)

  it("keeps the system's proxy, and neither its hooks nor its leave to trust anything", function()
    debian.get("7.3", "cloud", quiet)
    local config = files.read(box.directory .. "/config")
    assert.matches('Acquire::http::Proxy "http://proxy.example:3128";', config, 1, true)
    assert.is_nil(config:find 'AllowInsecureRepositories "true"')
    assert.is_nil(config:find "Post%-Invoke")
    assert.matches('Dir::State "' .. require("ktstr.user_cache").root(), config, 1, true)
  end)

  it("says what there is when Debian has no such kernel", function()
    local err = raised(debian.get, "7.9", "cloud", quiet)
    assert.equal("not-found", err.code)
    assert.equal("Debian has no cloud kernel '7.9' (has: 6.1.192, 7.3.4)", err.message)
    assert.same({}, leftovers())
  end)

  it("without a network says what apt said, and leaves nothing", function()
    files.write(box.directory .. "/no-network", "")
    local err = raised(debian.get, "7.3", "cloud", quiet)
    assert.equal("network", err.code)
    assert.matches("Could not resolve 'deb.example'", err.message)
    assert.matches("check the network", err.hint)
    assert.same({}, leftovers())
  end)

  it("on a full disk says so, and leaves nothing", function()
    files.write(box.directory .. "/full", "")
    local err = raised(debian.get, "7.3", "cloud", quiet)
    assert.equal("no-space", err.code)
    assert.matches("XDG_CACHE_HOME", err.hint)
    assert.same({}, leftovers())
  end)

  it("does not begin what the disk cannot hold", function()
    files.write(box.directory .. "/packages", (PACKAGES:gsub("Size: 1000", "Size: 1000000000000000")))
    local err = raised(debian.get, "7.3", "cloud", quiet)
    assert.equal("no-space", err.code)
    assert.matches("MiB are needed", err.message)
    assert.equal(0, calls "download")
  end)

  it("that cannot be decompressed leaves nothing", function()
    core.kernel_extract = function()
      errors.raise("format", "the payload is damaged")
    end
    assert.equal("the payload is damaged", raised(debian.get, "7.3", "cloud", quiet).message)
    assert.same({}, leftovers())
  end)

  it("ends the download and leaves nothing when interrupted", function()
    files.write(box.directory .. "/hang", "")
    local function interrupted()
      return files.exists(box.directory .. "/downloading") and 15 or nil
    end
    local err = raised(fixture.with_interruption, interrupted, debian.get, "7.3", "cloud", quiet)
    assert.equal("interrupted", err.code)
    assert.same({}, leftovers())
    local pid = tonumber(files.read(box.directory .. "/downloading"))
    assert.is_nil((require("posix.signal").kill(pid, 0)))
  end)

  it("without apt names the way out", function()
    box.setenv("PATH", "/nowhere")
    local find = process.find
    process.find = function(name)
      return name ~= "apt-get" and find(name) or nil
    end
    finally(function()
      process.find = find
    end)
    local err = raised(debian.get, "7.3", "cloud", quiet)
    assert.equal("not-found", err.code)
    assert.matches("bzImage", err.hint)
  end)
end)
