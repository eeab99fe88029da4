# The module builds without a warning, installs where it should, and loads.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my $APXS = $ENV{APXS}
    || (grep { -x } map { "/usr/bin/$_" } qw(apxs apxs2))[0]
    or plan skip_all => 'apxs is not here';

# What a make around the tests hands down.
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES LTFLAGS DESTDIR
               CFLAGS V)};

# A copy of what the module is built from, in a directory of its own.
sub copy_of_sources {
    my $dir = Private::temp_dir('build');
    for my $file (glob "$TOP/*.c $TOP/*.h $TOP/Makefile") {
        my ($name) = $file =~ m{([^/]+)$};
        Private::spew("$dir/$name", Private::slurp($file));
    }
    return $dir;
}

sub make {
    my ($dir, @arguments) = @_;
    return Private::run('make', '--no-print-directory', '-C', "$dir",
                        @arguments);
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

subtest 'make and make install' => sub {
    my $dir = copy_of_sources();
    my $before = names_in($dir);
    my ($status, $output) = make($dir, 'V=1');
    is($status, 0, 'make builds') or diag $output;
    like($output, qr/-Wall -Wextra/, 'with warnings on');
    unlike($output, qr/warning:|error:/i, 'and there is none');
    my $built = "$dir/.libs/mod_fastcgi_handler.so";
    ok(-f $built, 'the module is there');

    unlike((make($dir))[1], qr/Building/, 'a second make has nothing to do');
    my $later = time + 2;
    utime $later, $later, "$dir/fcgi_record.h";
    like((make($dir, '-n'))[1], qr/Building/, 'a changed header builds again');

    my $root = "$dir/destdir";
    ($status, $output) = make($dir, 'install', "DESTDIR=$root");
    is($status, 0, 'make install') or diag $output;
    is_deeply([files_below($root)], ["$root$modules/mod_fastcgi_handler.so"],
              'one file, below DESTDIR');
    like($output, qr{LoadModule fastcgi_handler_module \Q$modules\E/},
         'and the line that loads it is shown');
    serves_with("$root$modules/mod_fastcgi_handler.so");

    Private::run('rm', '-rf', $root);
    make($dir, 'clean');
    is(names_in($dir), $before, 'make clean leaves the sources alone');
};

# -a needs Debian's a2enmod, which here must not touch the system's httpd.
subtest 'the single command of apxs' => sub {
    my $dir = copy_of_sources();
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
    my $dir = copy_of_sources();
    my ($status, $output) = make($dir, 'APXS=/nowhere/apxs');
    isnt($status, 0, 'make fails');
    like($output, qr{^/nowhere/apxs is not here.*apache2-dev}s,
         'and names the package');
};

done_testing;
