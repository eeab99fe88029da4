# The RPM's spec pleases rpmlint, and what it builds has the right files.
# Licensed under the Apache License, Version 2.0; see LICENSE.
#
# It is built with this machine's httpd, so the macros that httpd-devel has on
# Fedora are given here.

use strict;
use warnings;
use Cwd qw(abs_path);
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use Httpd;
use Private;
use Test::More;

my $TOP = abs_path("$Bin/..");
my $NAME = 'mod_fastcgi_handler';
my $SPEC = "$TOP/rpm/$NAME.spec";
my $APXS = $ENV{APXS}
    || (grep { -x } map { "/usr/bin/$_" } qw(apxs apxs2))[0]
    or plan skip_all => 'apxs is not here';
plan skip_all => 'rpmbuild is not here'
    if (Private::run('rpmbuild', '--version'))[0] != 0;

$ENV{LC_ALL} = 'C';
delete @ENV{qw(MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES LTFLAGS DESTDIR
               CFLAGS CPPFLAGS LDFLAGS V)};

my $dir = Private::temp_dir('rpm');
my %macros = (
    _topdir => "$dir", _tmppath => "$dir/tmp", _httpd_apxs => $APXS,
    _httpd_mmn => '20120211x8664', _httpd_confdir => '/etc/httpd/conf.d',
    _httpd_modconfdir => '/etc/httpd/conf.modules.d',
    _httpd_moddir => (Private::run($APXS, '-q', 'LIBEXECDIR'))[1] =~ s/\s//gr,
);
my @DEFINED = map { ('--define', "$_ $macros{$_}") } sort keys %macros;
my $version;

sub files_below {
    my ($below) = @_;
    my (undef, $found) = Private::run('find', $below, '!', '-type', 'd',
                                      '-printf', '/%P\n');
    return split /\n/, $found;
}

subtest 'the spec' => sub {
    my ($status, $output) = Private::run('rpmspec', @DEFINED, '-P', $SPEC);
    is($status, 0, 'is read') or diag $output;
    unlike($output, qr/%\{?_httpd/, 'no macro of httpd is left in it');
    ($version) = $output =~ /^Version:\s*(\S+)/m;
    ($status, $output) = Private::run('rpmlint', $SPEC);
    is($status, 0, 'rpmlint is content') or diag $output;
    like($output, qr/ 0 errors,/, 'and finds no error') or diag $output;
    # Old rpm wanted a BuildRoot, and there is no address to get it from.
    my @warnings = grep { !/ W: (?:no-buildroot-tag|invalid-url Source0)/ }
        $output =~ /^(.* W: .*)$/mg;
    is_deeply(\@warnings, [], 'nor warns');
};

subtest 'the RPM' => sub {
    my ($status, $output) = Private::run(
        'make', '--no-print-directory', '-C', $TOP, 'dist',
        "DIST=$dir/$NAME-$version.tar.gz");
    is($status, 0, 'the source is packed') or diag $output;
    ($status, $output) = Private::run('rpmbuild', '-tb', '--nodeps', @DEFINED,
                                      "$dir/$NAME-$version.tar.gz");
    is($status, 0, 'rpmbuild') or diag $output;
    unlike($output, qr/\.[ch]:\d+:.*(?:warning|error):/, 'without a warning');
    my @rpms = glob "$dir/RPMS/*/*.rpm";
    my ($rpm) = grep { !/-debug(?:info|source)-/ } @rpms;
    ok($rpm, 'there is one') or return;

    my $query = sub {
        my (undef, $said) = Private::run('rpm', '--dbpath', "$dir/db", '-qp',
                                         @_, $rpm);
        return $said;
    };
    my $modules = $macros{_httpd_moddir};
    like($query->('-l'), qr/^\Q$modules\E\/$NAME\.so$/m, 'rpm -qpl');
    is($query->('-c'), "/etc/httpd/conf.modules.d/10-fastcgi_handler.conf\n",
       'what an administrator may change');
    like($query->('--requires'), qr/^httpd-mmn = $macros{_httpd_mmn}$/m,
         'it depends on the API of httpd');

    my $root = "$dir/root";
    ($status, $output) = Private::run('sh', '-c', 'mkdir "$1" && cd "$1" &&
        rpm2cpio "$0" | cpio --quiet -id', $rpm, $root);
    is($status, 0, 'unpacked') or diag $output;
    # Where documents are depends on the distribution.
    my @files = map { s{^/usr/share/(doc|licenses)/[^/]+}{$1}r }
        grep { !m{^/usr/lib/\.build-id/} } files_below($root);
    my @docs = map { s{^\Q$TOP\E/}{}r } glob "$TOP/docs/*";
    is_deeply([sort @files], [sort
        '/etc/httpd/conf.modules.d/10-fastcgi_handler.conf',
        "$modules/$NAME.so", "$modules/mod_proxy_fastcgi.so",
        'licenses/LICENSE', 'licenses/NOTICE',
        map { "doc/$_" } qw(CHANGES README.rst
                            fastcgi-handler-php-fpm.conf.example), @docs],
        'its files');
    my $load = "$root$macros{_httpd_modconfdir}/10-fastcgi_handler.conf";
    my $text = Private::slurp($load);
    like($text, qr/^LoadModule fastcgi_handler_module modules\/$NAME\.so\n/,
         'the line that loads the module');
    chooses("$root$modules/$NAME.so", $text);
    serves("$root$modules/$NAME.so",
           glob "$root/usr/share/doc/*/fastcgi-handler-php-fpm.conf.example");
};

# An httpd with that module and configuration asks for PHP-FPM, of Fedora's.
sub serves {
    my ($module, $example) = @_;
    local $ENV{MODULE_SO} = $module;
    local $ENV{HTTPD_PRELOAD} = '';
    my $httpd = Httpd->start(
        files => { 'a.php' => '', '.php' => '', 'b.phps' => '',
                   'folder/index.php' => '' },
        config => "FcgiConnectTimeout 100ms\nInclude $example\n");
    my $status = sub { Client->get($httpd->port, $_[0], Host => 'x')->status };
    is($status->($_), 503, "$_ is for PHP-FPM") for '/a.php', '/folder/';
    like($httpd->error_log, qr{fcgi:/run/php-fpm/www\.sock}, 'on its socket');
    is($status->($_), 403, "$_ is for nobody") for '/.php', '/b.phps';
    $httpd->ok_healthy;
    return;
}

# FCGI36 is said where nobody chose how many requests can wait.
sub chooses {
    my ($module, $text) = @_;
    $text =~ s{modules/\Q$NAME\E\.so}{$module};
    local $ENV{HTTPD_PRELOAD} = '';
    for my $mpm (qw(event worker prefork)) {
        local $ENV{MPM} = $mpm;
        my $httpd = Httpd->start(
            module => 0, config => "${text}SetHandler fcgi:127.0.0.1:9\n");
        unlike($httpd->words, qr/FCGI36/,
               "$mpm: it is chosen how many can wait");
        $httpd->graceful;
        unlike($httpd->words, qr/FCGI36|:(?:warn|error)\]/,
               'and a graceful restart accepts it');
        $httpd->ok_healthy;
    }
    return;
}

done_testing;
