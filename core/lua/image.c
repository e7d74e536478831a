// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Images of machines, and what tells one from another: hashes, the build, the host's CPU.
 */
#include "lua/image.h"

#include <string.h>

#include "base/build_id.h"
#include "base/hash.h"

static const char image_metatable[] = "ktstr.image";

struct lua_image {
	struct image *image; /* NULL once it is closed */
};

struct image **image_push(lua_State *L)
{
	struct lua_image *li = lua_newuserdata(L, sizeof(*li));

	li->image = NULL;
	luaL_getmetatable(L, image_metatable);
	lua_setmetatable(L, -2);
	return &li->image;
}

struct image *image_check(lua_State *L, int index)
{
	struct lua_image *li = luaL_checkudata(L, index, image_metatable);

	if (!li->image)
		bind_raise(L, error_create(ERROR_INVALID, "the image has been closed"));
	return li->image;
}

static int lua_image_open(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);

	bind_check(L, image_open(path, image_push(L)));
	return 1;
}

static int lua_image_close(lua_State *L)
{
	struct lua_image *li = luaL_checkudata(L, 1, image_metatable);

	image_close(li->image);
	li->image = NULL;
	return 0;
}

static int lua_image_publish(lua_State *L)
{
	bind_check(L, image_publish(image_check(L, 1), luaL_checkstring(L, 2)));
	return 0;
}

static int lua_image_verify(lua_State *L)
{
	bind_check(L, image_verify(image_check(L, 1)));
	return 0;
}

static int push_section(lua_State *L, enum image_section section)
{
	size_t size;
	const char *data = image_section(image_check(L, 1), section, &size);

	lua_pushlstring(L, size ? data : "", size);
	return 1;
}

static int lua_image_identity(lua_State *L)
{
	return push_section(L, IMAGE_IDENTITY);
}

static int lua_image_script(lua_State *L)
{
	return push_section(L, IMAGE_SCRIPT);
}

static int lua_image_disk_size(lua_State *L)
{
	lua_pushnumber(L, (double)image_disk_size(image_check(L, 1)));
	return 1;
}

static int lua_image_memory_size(lua_State *L)
{
	lua_pushnumber(L, (double)image_memory_size(image_check(L, 1)));
	return 1;
}

static int push_hash(lua_State *L, struct hash128 hash)
{
	char text[HASH128_HEX];

	hash128_hex(&hash, text);
	lua_pushstring(L, text);
	return 1;
}

static int lua_hash(lua_State *L)
{
	size_t size;
	const char *data = luaL_checklstring(L, 1, &size);

	return push_hash(L, hash128(data, size));
}

static int lua_hash_file(lua_State *L)
{
	struct hash128 hash;

	bind_check(L, hash_file(luaL_checkstring(L, 1), &hash));
	return push_hash(L, hash);
}

static int lua_build_id(lua_State *L)
{
	char text[BUILD_ID_TEXT_MAX];

	build_id_text(text);
	lua_pushstring(L, text);
	return 1;
}

void bind_image(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "publish", lua_image_publish },
		{ "verify", lua_image_verify },
		{ "identity", lua_image_identity },
		{ "script", lua_image_script },
		{ "disk_size", lua_image_disk_size },
		{ "memory_size", lua_image_memory_size },
		{ "close", lua_image_close },
		{ NULL, NULL },
	};
	static const luaL_Reg functions[] = {
		{ "image_open", lua_image_open },
		{ "hash", lua_hash },
		{ "hash_file", lua_hash_file },
		{ "build_id", lua_build_id },
		{ NULL, NULL },
	};

	luaL_newmetatable(L, image_metatable);
	lua_pushcfunction(L, lua_image_close);
	lua_setfield(L, -2, "__gc");
	lua_newtable(L);
	luaL_register(L, NULL, methods);
	lua_setfield(L, -2, "__index");
	lua_pop(L, 1);
	luaL_register(L, NULL, functions);
}
