# The modules build without a warning, install where they should, and load.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Build;
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my ($VERSION) = Private::slurp("$TOP/fcgi_version.h")
    =~ /^#define FCGI_MODULE_VERSION "(.+)"$/m;
my $APXS = $ENV{APXS}
    || (grep { -x } map { "/usr/bin/$_" } qw(apxs apxs2))[0]
    or plan skip_all => 'apxs is not here';
Build::leave_make();

my $dist = Private::temp_dir('dist');

# All of the tree, packed and unpacked.
sub unpacked {
    my $dir = "$dist";
    my $file = "$dir/packed.tar.gz";
    my ($status, $output) = Build::make($TOP, 'dist', "DIST=$file");
    is($status, 0, 'make dist') or diag $output;
    is((Private::run('tar', '-C', "$dir", '-xf', $file))[0], 0, 'unpacked');
    my $top = "$dir/mod_fastcgi_handler-" . $VERSION =~ tr/-/~/r;
    ok(-d $top, 'into a folder with the version in its name');
    is_deeply([grep { m{\.(?:l?o|slo|la|so|profraw)$|/\.git/|/build/} }
               files_below($top)], [], 'nothing that was built is in it');
    return $top;
}

sub names_in {
    my ($dir) = @_;
    opendir my $handle, $dir or die "$dir: $!";
    return join ' ', sort grep { !/^\.\.?$/ } readdir $handle;
}

sub files_below {
    my ($dir) = @_;
    my (undef, $found) = Private::run('find', "$dir", '!', '-type', 'd');
    return split /\n/, $found;
}

# An httpd with this file as its module lets an application answer.
sub serves_with {
    my ($file) = @_;
    local $ENV{MODULE_SO} = $file;
    local $ENV{HTTPD_PRELOAD} = '';
    my $app = FcgiApp->start(sub {
        my ($c) = @_;
        $c->read_request or return;
        $c->reply("Content-Type: text/plain\r\n\r\nhere");
    });
    my $httpd = Httpd->start(files => { 'a.fcgi' => '' },
                             config => 'AddHandler ' . $app->handler
                                 . " .fcgi\n");
    is(Client->get($httpd->port, '/a.fcgi', Host => 'x')->body, 'here',
       'httpd serves with it');
    $httpd->ok_healthy;
    return;
}

my ($modules) = (Private::run($APXS, '-q', 'LIBEXECDIR'))[1] =~ /(\S+)/;

# An apxs that asks for none of it itself, as another distribution's may not.
sub plain_apxs {
    my $needed = (Private::run($APXS, '-q', 'EXTRA_CPPFLAGS'))[1] =~ s/\s+$//r;
    return Private::spew("$dist/apxs", <<"EOC", 0755);
#!/bin/sh
exec $APXS -S CFLAGS="-O2 $needed" -S LDFLAGS= "\$@"
EOC
}

# What make built is hardened, whatever apxs has.
sub ok_hardened {
    my ($dir) = @_;
    for my $built (map { "$dir/${_}.so" } '.libs/mod_fastcgi_handler',
                   'proxy/.libs/mod_proxy_fastcgi') {
        my ($name) = $built =~ m{([^/]+)\z};
        my (undef, $elf) = Private::run('readelf', '-dlrsW', $built);
        like($elf, qr/GNU_RELRO/, "$name: relocations are read-only");
        like($elf, qr/BIND_NOW|FLAGS_1.*NOW/, 'all of them, from the start');
        like($elf, qr/GNU_STACK(?:\s+0x\w+){5}\s+RW\s/, 'no code on stacks');
        unlike($elf, qr/TEXTREL/, 'and none that is written to');
        like($elf, qr/__stack_chk_fail/, 'stacks are guarded');
        unlike($elf, qr/(?:JUMP_SLO|GLOB_DAT).*\bfcgi_(?!engine)/,
               'calls of its own functions are direct');
    }
    my (undef, $elf) = Private::run('readelf', '-sW',
                                    "$dir/.libs/mod_fastcgi_handler.so");
    like($elf, qr/__\w+_chk/, 'copies of unknown lengths are checked');
    return;
}

# 1.0.0-dev is not released; distributions call it 1.0.0~dev, so that 1.0.0 is
# newer.
subtest 'one version' => sub {
    my ($released) = $VERSION =~ /^(\d+\.\d+\.\d+)(?:-dev)?$/;
    ok($released, "$VERSION is one");
    my $packaged = $VERSION =~ tr/-/~/r;
    my $note = $VERSION eq $released ? '' : ' (not released yet)';
    like(Private::slurp("$TOP/CHANGES"),
         qr/\AChanges with mod_fastcgi_handler \Q$released$note\E$/m,
         'that of CHANGES');
    like(Private::slurp("$TOP/debian/changelog"), qr/\A\S+ \(\Q$packaged\E-/,
         "Debian's package");
    like(Private::slurp("$TOP/rpm/mod_fastcgi_handler.spec"),
         qr/^Version: +\Q$packaged\E$/m, 'and the RPM');
};

subtest 'make and make install' => sub {
    my $dir = unpacked();
    my $before = names_in($dir);
    my @plain = ('APXS=' . plain_apxs(), 'CPPFLAGS=-D_FORTIFY_SOURCE=2');
    my ($status, $output) = Build::make($dir, 'V=1', @plain);
    is($status, 0, 'make builds') or diag $output;
    like($output, qr/-Wall -Wextra/, 'with warnings on');
    unlike($output, qr/warning:|error:/i, 'and there is none');
    unlike($output, qr/relro.*\brelro/, 'with no flags of the linker but ours');
    unlike($output, qr/redefined/, "and a package's are not in the way");
    my $built = "$dir/.libs/mod_fastcgi_handler.so";
    ok(-f $built, 'the module is there');
    ok(-f "$dir/proxy/.libs/mod_proxy_fastcgi.so", 'and the second one');
    ok_hardened($dir);

    unlike((Build::make($dir, @plain))[1], qr/Building/,
           'a second make has nothing to do');
    my $later = time + 2;
    utime $later, $later, "$dir/fcgi_record.h";
    like((Build::make($dir, '-n'))[1], qr/Building/,
         'a changed header builds again');

    my $root = "$dir/destdir";
    ($status, $output) = Build::make($dir, 'install', "DESTDIR=$root");
    is($status, 0, 'make install') or diag $output;
    is_deeply([sort(files_below($root))],
              [map { "$root$modules/mod_$_.so" }
               qw(fastcgi_handler proxy_fastcgi)],
              'two files, below DESTDIR');
    like($output, qr{LoadModule fastcgi_handler_module \Q$modules\E/},
         'and the line that loads it is shown');
    like($output, qr{LoadModule proxy_fastcgi_module \Q$modules\E/},
         'and that of the other');
    serves_with("$root$modules/mod_fastcgi_handler.so");

    Private::run('rm', '-rf', $root);
    Build::make($dir, 'clean');
    is(names_in($dir), $before, 'make clean leaves the sources alone');
    unlike(names_in("$dir/proxy"), qr/\.l|\.s|\.o/, 'in both folders');
};

# -a needs Debian's a2enmod, which here must not touch the system's httpd.
subtest 'the single command of apxs' => sub {
    my $dir = Build::copy_of_sources();
    my $into = Private::temp_dir('installed');
    my $enables = -x '/usr/sbin/a2enmod';
    mkdir "$into/$_" for qw(modules conf conf/mods-available
                            conf/mods-enabled state);
    local $ENV{APACHE_CONFDIR} = "$into/conf";
    local $ENV{APACHE_STATE_DIRECTORY} = "$into/state";
    local $ENV{PATH} = "$ENV{PATH}:/usr/sbin";
    my ($status, $output) = Private::run('sh', '-c', <<"EOC");
cd '$dir' && $APXS -S LIBEXECDIR='$into/modules' -S SYSCONFDIR='$into/conf' \\
    -i @{[ $enables ? '-a' : '' ]} -Wc,-Wall -Wc,-Wextra \\
    -o mod_fastcgi_handler.so -c *.c
EOC
    is($status, 0, 'builds and installs') or diag $output;
    unlike($output, qr/warning:(?! remember to run)|error:/i,
           'without a warning');
    ok(-f "$into/modules/mod_fastcgi_handler.so", 'the module is there');
    SKIP: {
        skip 'no a2enmod', 1 if !$enables;
        like(Private::slurp("$into/conf/mods-enabled/fastcgi_handler.load"),
             qr{^LoadModule\ fastcgi_handler_module\s+
                \Q$into\E/modules/mod_fastcgi_handler\.so$}x,
             'and switched on by its name');
    }
    serves_with("$into/modules/mod_fastcgi_handler.so");
};

subtest 'without apxs' => sub {
    my $dir = Build::copy_of_sources();
    my ($status, $output) = Build::make($dir, 'APXS=/nowhere/apxs');
    isnt($status, 0, 'make fails');
    like($output, qr{^/nowhere/apxs is not here.*apache2-dev}s,
         'and names the package');
};

done_testing;
